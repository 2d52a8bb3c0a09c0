-- LOSES DATA: who held which role.
-- Locks: ACCESS EXCLUSIVE on users and roles too, for a moment, to take the foreign keys off.

drop table user_roles;
