-- Who holds which role.

-- Locks: a foreign key takes SHARE ROW EXCLUSIVE on the table that it points to, so writes to
-- users and roles wait until this commits; reads go on.  It is over in milliseconds, because
-- the table is empty and there is nothing to check.
create table user_roles (
    user_id     uuid        not null,
    role_name   text        not null,
    granted_at  timestamptz not null default now(),

    -- A pair of keys is a key: no id column, and nobody holds a role twice.
    constraint user_roles_pkey primary key (user_id, role_name),

    -- A grant means nothing without its user, so it goes with them.
    constraint user_roles_user_id_fkey foreign key (user_id)
        references users (id)
        on delete cascade,

    -- A role that somebody holds cannot be deleted by accident.
    constraint user_roles_role_name_fkey foreign key (role_name)
        references roles (name)
        on update cascade
        on delete restrict
);

-- PostgreSQL indexes the target of a foreign key, not its source.  Without this index each
-- delete or rename in roles reads the whole of user_roles.  user_id needs none of its own: the
-- primary key begins with it.
create index user_roles_role_name_idx
    on user_roles (role_name);
