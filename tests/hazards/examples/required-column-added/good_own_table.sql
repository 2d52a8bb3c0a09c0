create table t (a integer);
alter table t add column b integer not null;
