-- migrator: no-transaction
-- migrator: lock-timeout 1s

-- Back to the valid check.  Outside a transaction, for the reason that 09's down gives: so the
-- validation reads the table while no lock is held that stops anybody.  not null goes last, so
-- that at no moment is a row without first_name let in.

alter table users
    add constraint users_first_name_present check (first_name is not null) not valid;

alter table users
    validate constraint users_first_name_present;

alter table users
    alter column first_name drop not null;
