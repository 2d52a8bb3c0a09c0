-- migrator: lock-timeout 1s

-- The first of five steps from users.name to first_name and last_name, while people use Tribe:
--
--   09  make room for both forms                  then release the application that writes the
--                                                 two parts, and reads a row in either form
--   10  move the rows that still have a name
--   11  ask for first_name, of what is written    then wait as long as you like
--   12  check the rows that were there before
--   13  turn that into not null
--
-- Locks: ACCESS EXCLUSIVE on users, which every request reads.  Nothing is read or rewritten, so
-- it is held for milliseconds, but while we wait for it all later queries queue behind us: hence
-- a lock timeout below the default.  Better to step aside and try again.

alter table users
    add column first_name text,
    add column last_name text,
    alter column name drop not null,

    -- In one form, never in none, and never in two that could disagree.  "not valid" spares the
    -- reading of the rows that are there; 11 and 12 tell the rest of that story.
    add constraint users_name_in_one_form check (num_nonnulls(name, first_name) = 1) not valid;
