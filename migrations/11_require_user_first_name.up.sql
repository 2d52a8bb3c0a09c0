-- migrator: lock-timeout 1s

-- From now on, every row that is inserted or updated must have a first_name.
--
-- "not valid": existing rows are not checked, so ACCESS EXCLUSIVE on users is held only briefly.
-- Otherwise the table would be scanned under that lock.  The next file checks them in a
-- transaction of its own, under a lock that blocks no reads or writes.
--
-- This must come after the split: the constraint also applies to updates of old rows, so a user
-- without a first_name could not even change the email address.

alter table users
    add constraint users_first_name_present check (first_name is not null) not valid;
