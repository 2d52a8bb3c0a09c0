-- The roles of users.

-- Locks: a foreign key takes SHARE ROW EXCLUSIVE on the table that it references, so writes to
-- users and roles wait until this commits; reads do not wait.  That takes milliseconds: the new
-- table is empty, so there are no rows to check.
create table user_roles (
    user_id     uuid        not null,
    role_name   text        not null,
    granted_at  timestamptz not null default now(),

    -- The pair is the key: no id column is needed, and a user cannot have a role twice.
    constraint user_roles_pkey primary key (user_id, role_name),

    -- Deleting a user deletes the user's grants.
    constraint user_roles_user_id_fkey foreign key (user_id)
        references users (id)
        on delete cascade,

    -- A role that users have cannot be deleted.
    constraint user_roles_role_name_fkey foreign key (role_name)
        references roles (name)
        on update cascade
        on delete restrict
);

-- PostgreSQL indexes the referenced columns of a foreign key, not the referencing ones.  Without
-- this index, each delete or rename in roles would scan all of user_roles.  user_id needs no index
-- of its own: it is the first column of the primary key.
create index user_roles_role_name_idx
    on user_roles (role_name);
