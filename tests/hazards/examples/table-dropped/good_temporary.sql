create temporary table t (a integer);
drop table t;
