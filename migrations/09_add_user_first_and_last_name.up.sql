-- migrator: lock-timeout 1s

-- The first of five migrations that split users.name into first_name and last_name without
-- downtime:
--
--   09  allow both forms                       then deploy the application that writes the new
--                                              columns, and reads rows of either form
--   10  convert the rows that have a name
--   11  require first_name in new rows         then wait as long as you like
--   12  validate the rows from before
--   13  make the column not null
--
-- Locks: ACCESS EXCLUSIVE on users, which every request reads.  Nothing is scanned or rewritten, so
-- the lock is held for milliseconds.  But while this waits for the lock, all later queries wait
-- after it, hence a lock timeout below the default: it is better to give up and retry.

alter table users
    add column first_name text,
    add column last_name text,
    alter column name drop not null,

    -- Exactly one of the two forms, so that they cannot disagree.  "not valid" avoids a scan of
    -- the existing rows; see 11 and 12.
    add constraint users_name_in_one_form check (num_nonnulls(name, first_name) = 1) not valid;
