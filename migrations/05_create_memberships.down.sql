-- LOSES DATA: the memberships.

drop table memberships;
