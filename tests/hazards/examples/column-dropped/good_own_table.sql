create table t (a integer, b integer);
alter table t drop column b;
