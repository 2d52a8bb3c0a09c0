create table notes (a integer);
alter table notes add column b integer;
insert into notes values (1, 2);
