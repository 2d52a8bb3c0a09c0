-- migrator: lock-timeout 1s

-- A constraint cannot be made "not valid" again, so both are dropped and added in one statement,
-- without a moment in between.  Locks: briefly ACCESS EXCLUSIVE on users; nothing is scanned.

alter table users
    drop constraint users_name_in_one_form,
    drop constraint users_first_name_present,
    add constraint users_name_in_one_form check (num_nonnulls(name, first_name) = 1) not valid,
    add constraint users_first_name_present check (first_name is not null) not valid;
