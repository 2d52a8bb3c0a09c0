-- LOSES DATA: who was in which tribe.

drop table memberships;
