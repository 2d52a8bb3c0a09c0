-- migrator: statement-timeout 15min

-- Locks: SHARE UPDATE EXCLUSIVE on users; reads and writes go on.  The whole table is read, and
-- once only, since one statement validates both.
--
-- Where a row has no first_name this fails and changes nothing.  To find it:
--   select id, email from users where first_name is null;

alter table users
    validate constraint users_name_in_one_form,
    validate constraint users_first_name_present;
