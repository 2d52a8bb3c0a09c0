-- What people write to their tribes.

create table posts (
    id          uuid        not null default gen_random_uuid(),
    tribe_id    uuid        not null,
    author_id   uuid        not null,
    body        text        not null,
    created_at  timestamptz not null default now(),

    constraint posts_pkey primary key (id),
    constraint posts_body_length check (char_length(body) between 1 and 10000),

    -- restrict, both: posts are what people come for.  Whoever deletes a tribe or an account
    -- says first what becomes of them.
    constraint posts_tribe_id_fkey foreign key (tribe_id)
        references tribes (id)
        on delete restrict,
    constraint posts_author_id_fkey foreign key (author_id)
        references users (id)
        on delete restrict
);

-- A tribe's page, newest first.  id is there to break ties, so that paging by
-- (created_at, id) < (…, …) neither skips nor repeats a post.  Serves the foreign key too.
create index posts_tribe_id_created_at_id_idx
    on posts (tribe_id, created_at desc, id desc);

-- For the foreign key: without it, deleting one user reads every post.
create index posts_author_id_idx
    on posts (author_id);
