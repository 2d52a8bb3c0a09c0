-- LOSES DATA: the users.  up creates an empty table; dump this one first if its rows matter.
-- No cascade: if anything still references the table, this must fail and not drop that, too.

drop table users;
