-- Tribes: groups of users.

create table tribes (
    id          uuid        not null default gen_random_uuid(),
    slug        text        not null,
    name        text        not null,
    founder_id  uuid,
    created_at  timestamptz not null default now(),

    constraint tribes_pkey primary key (id),

    -- The slug is part of links, so the database checks its form for all clients.
    constraint tribes_slug_key unique (slug),
    constraint tribes_slug_form check (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
    constraint tribes_slug_length check (char_length(slug) <= 60),
    constraint tribes_name_length check (char_length(name) between 1 and 100),

    -- A tribe remains when its founder's account is deleted, so founder_id is nullable.
    constraint tribes_founder_id_fkey foreign key (founder_id)
        references users (id)
        on delete set null
);

-- For the foreign key: deleting a user searches for the tribes that this user founded.  Partial:
-- that search never looks for nulls.
create index tribes_founder_id_idx
    on tribes (founder_id)
    where founder_id is not null;
