-- LOSES DATA: roles that were added or changed after up.  up inserts its own rows again.

drop table roles;
