create table t (a integer);
drop table t;
