-- migrator: statement-timeout 15min

-- Locks: SHARE UPDATE EXCLUSIVE on users, which blocks no reads or writes.  The table is scanned
-- only once, because one statement validates both constraints.
--
-- If a row has no first_name, this fails and changes nothing.  To find such rows:
--   select id, email from users where first_name is null;

alter table users
    validate constraint users_name_in_one_form,
    validate constraint users_first_name_present;
