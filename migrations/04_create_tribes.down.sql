-- LOSES DATA: the tribes.

drop table tribes;
