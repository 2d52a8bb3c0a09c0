-- The rows that up wrote come back with the next up.
-- LOSES DATA: roles that somebody added or described anew since then are gone.

drop table roles;
