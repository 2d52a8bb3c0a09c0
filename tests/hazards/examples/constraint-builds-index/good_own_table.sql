create table t (a integer);
alter table t add primary key (a);
