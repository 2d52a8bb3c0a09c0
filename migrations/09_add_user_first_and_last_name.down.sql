-- migrator: no-transaction
-- migrator: lock-timeout 1s

-- name becomes not null again.  Alone, "set not null" reads the whole table under ACCESS
-- EXCLUSIVE.  With a valid check that says the same it reads nothing; the check itself is added
-- without looking at a row, and validated under SHARE UPDATE EXCLUSIVE, with which people read
-- and write.  In one transaction the lock of the first statement would be held for all of it:
-- so each statement stands for itself, and no lock outlives its statement.
--
-- No data is lost: 10's down has put the names together.  Where a row was written in two parts
-- since then, the validation fails and the columns stay: put it together with the update of 10's
-- down, and go on with the validation.

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
