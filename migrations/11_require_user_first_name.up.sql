-- migrator: lock-timeout 1s

-- From here on each row that is written has a first_name.
--
-- not valid: the rows that are there are not looked at, so ACCESS EXCLUSIVE on users is held for
-- a moment only.  Without these two words the whole table would be read under it.  The next
-- file, in a transaction of its own, looks at them under a lock that nobody notices.
--
-- After the split and not before it: "not valid" lets an old row be, but not be updated, so
-- whoever has no first_name yet could not even change their address.

alter table users
    add constraint users_first_name_present check (first_name is not null) not valid;
