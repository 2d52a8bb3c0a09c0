create table t (a integer);
alter table t rename column a to b;
