create table t (a integer);
alter table t rename to u;
