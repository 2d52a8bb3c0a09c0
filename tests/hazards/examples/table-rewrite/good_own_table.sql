create table notes (a integer);
insert into notes values (1);
alter table notes alter column a type bigint;
