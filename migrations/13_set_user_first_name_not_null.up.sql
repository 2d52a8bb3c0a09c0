-- migrator: lock-timeout 1s
-- migrator: require select convalidated from pg_constraint
--   where conrelid = 'users'::regclass and conname = 'users_first_name_present'

-- The planner and client libraries understand not null better than a check.  Since version 12,
-- PostgreSQL relies on the valid check and scans no rows, so ACCESS EXCLUSIVE on users is held
-- only briefly.

-- migrator: allow lock-held The second statement only drops a check, which takes no time.
alter table users
    alter column first_name set not null;

-- The check is no longer needed.  It is dropped in a statement of its own: within one "alter
-- table", drops come first, so "set not null" could not rely on it.
alter table users
    drop constraint users_first_name_present;

-- users.name is kept, and users_name_in_one_form keeps it empty.  Drop it only when no one will
-- revert these migrations: a column that is dropped and added again becomes the last column.
