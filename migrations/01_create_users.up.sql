-- People.  Everything else in Tribe points here.

create table users (
    -- Any client can make a uuid before it talks to the database, and nobody can count our users
    -- by it.  gen_random_uuid() is built in from PostgreSQL 13: no extension to install first.
    id          uuid        not null default gen_random_uuid(),

    -- text with a check, not varchar(320): a check can be added not valid and changed without
    -- touching a row, and its name tells the reader of an error what was wrong.
    email       text        not null,
    name        text        not null,

    -- timestamptz, not timestamp: it is a moment in time, whatever time zone the session is in.
    created_at  timestamptz not null default now(),

    -- Named here, because a later migration must be able to name them too.
    constraint users_pkey primary key (id),
    constraint users_email_form check (email like '_%@_%' and char_length(email) <= 320)
);

-- Ada@example.com and ada@example.com are one mailbox.  A constraint cannot hold an expression,
-- so the rule is a unique index; sign-in searches by lower(email) and uses it as well.
create unique index users_email_key
    on users (lower(email));
