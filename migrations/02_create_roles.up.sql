-- Roles, which give users rights on the entire platform.

create table roles (
    -- The name is the key.  The code refers to 'admin' by name, and a name is the same in every
    -- database; a number from a sequence is not.
    name         text not null,
    description  text not null,

    constraint roles_pkey primary key (name),
    constraint roles_name_form check (name ~ '^[a-z][a-z_]{1,30}$')
);

-- The code does not work without these rows, so they are inserted with the table, in the same
-- transaction, and not with the demo data.
insert into roles (name, description)
values
    ('admin', 'Runs the platform: grants roles, closes accounts'),
    ('moderator', 'Hides posts and mutes users in every tribe'),
    ('member', 'Founds and joins tribes, writes posts');
