-- migrator: lock-timeout 1s

-- not null is what the planner, every client library and the next reader understand.  Thanks to
-- the valid check PostgreSQL takes its word for it (from version 12 on) and reads no row, so
-- ACCESS EXCLUSIVE on users is held for a moment only.

alter table users
    alter column first_name set not null;

-- It has done its work.  A statement of its own: in one "alter table" with the other, drops are
-- done first, and the proof would be gone before it is used.
alter table users
    drop constraint users_first_name_present;

-- users.name is empty and stays, and users_name_in_one_form keeps it so.  Dropping it is left to a
-- day when nobody needs the way back: a column that is dropped and added again comes back as the
-- last one, not in its old place.
