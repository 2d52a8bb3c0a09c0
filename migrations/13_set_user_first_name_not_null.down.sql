-- migrator: no-transaction
-- migrator: lock-timeout 1s

-- Restore the valid check.  Outside a transaction, as in the down script of 09: the validation
-- scans the table while no lock is held that blocks reads or writes.  not null is dropped last, so
-- that a row without first_name is refused at any moment.

alter table users
    add constraint users_first_name_present check (first_name is not null) not valid;

alter table users
    validate constraint users_first_name_present;

alter table users
    alter column first_name drop not null;
