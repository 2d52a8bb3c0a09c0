create table t (a integer);
alter table t alter column a set not null;
