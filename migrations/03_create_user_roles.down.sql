-- LOSES DATA: the roles of users.
-- Locks: briefly ACCESS EXCLUSIVE on users and roles as well, to drop the foreign keys.

drop table user_roles;
