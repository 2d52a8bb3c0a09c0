create table notes (a integer);
alter table notes add check (a > 0);
