-- Posts of users in their tribes.

create table posts (
    id          uuid        not null default gen_random_uuid(),
    tribe_id    uuid        not null,
    author_id   uuid        not null,
    body        text        not null,
    created_at  timestamptz not null default now(),

    constraint posts_pkey primary key (id),
    constraint posts_body_length check (char_length(body) between 1 and 10000),

    -- restrict for both: a tribe or an account can be deleted only after its posts have been
    -- moved or deleted.
    constraint posts_tribe_id_fkey foreign key (tribe_id)
        references tribes (id)
        on delete restrict,
    constraint posts_author_id_fkey foreign key (author_id)
        references users (id)
        on delete restrict
);

-- For a tribe's page, newest post first.  id breaks ties, so that paging by
-- (created_at, id) < (…, …) neither skips nor repeats a post.  Also serves the foreign key.
create index posts_tribe_id_created_at_id_idx
    on posts (tribe_id, created_at desc, id desc);

-- For the foreign key: without this index, deleting a user would scan all posts.
create index posts_author_id_idx
    on posts (author_id);
