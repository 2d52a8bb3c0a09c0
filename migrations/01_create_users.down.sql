-- LOSES DATA: the users are gone, and up brings back an empty table.  Dump the table first if
-- the rows matter.  No cascade: whatever still points here must stop this, not vanish with it.

drop table users;
