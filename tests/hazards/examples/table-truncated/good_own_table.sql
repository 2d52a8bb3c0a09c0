create table t (a integer);
truncate t;
