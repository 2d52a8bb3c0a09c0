-- What a user may do on the platform as a whole.

create table roles (
    -- The word is the key.  The code says 'admin' anyway, and a word is the same in every
    -- database, where a number from a sequence is not.
    name         text not null,
    description  text not null,

    constraint roles_pkey primary key (name),
    constraint roles_name_form check (name ~ '^[a-z][a-z_]{1,30}$')
);

-- These rows belong to the schema: the code does not work without them.  So they are made with
-- the table, in one transaction, and not in the file of demo data.
insert into roles (name, description)
values
    ('admin', 'Runs the platform: grants roles, closes accounts'),
    ('moderator', 'Hides posts and mutes users in every tribe'),
    ('member', 'Founds and joins tribes, writes posts');
