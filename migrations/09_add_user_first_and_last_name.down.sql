-- migrator: no-transaction
-- migrator: lock-timeout 1s

-- name becomes not null again.  By itself, "set not null" scans the table under ACCESS EXCLUSIVE.
-- With a valid check of the same condition it scans nothing.  The check is added as "not valid",
-- which scans nothing, and validated under SHARE UPDATE EXCLUSIVE, which blocks no reads or
-- writes.  In one transaction, the lock of the first statement would be held until the end.
-- Outside a transaction, each statement releases its lock when it is done.
--
-- No data is lost: the down script of 10 has joined the names.  If a row was written with first
-- and last name after that, the validation fails and the columns are kept: run the update of that
-- script again, then resume.

alter table users
    add constraint users_name_present check (name is not null) not valid;

alter table users
    validate constraint users_name_present;

alter table users
    alter column name set not null;

alter table users
    drop constraint users_name_present,
    drop constraint users_name_in_one_form,
    drop column first_name,
    drop column last_name;
