-- Users.  All other tables of Tribe reference this one, directly or not.

create table users (
    -- A client can generate a uuid without asking the database, and it does not reveal how many
    -- users there are.  gen_random_uuid() needs no extension since PostgreSQL 13.
    id          uuid        not null default gen_random_uuid(),

    -- text with a check, not varchar(320): a check can be added as "not valid" and changed
    -- without rewriting the table, and its name appears in error messages.
    email       text        not null,
    name        text        not null,

    -- timestamptz, not timestamp: it is a point in time, whatever the time zone of the session.
    created_at  timestamptz not null default now(),

    -- Named explicitly, so that later migrations can refer to them.
    constraint users_pkey primary key (id),
    constraint users_email_form check (email like '_%@_%' and char_length(email) <= 320)
);

-- Ada@example.com and ada@example.com are the same mailbox.  A unique constraint cannot contain
-- an expression, so this is a unique index.  Sign-in searches by lower(email), and uses it as well.
create unique index users_email_key
    on users (lower(email));
