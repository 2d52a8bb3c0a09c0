create table t (a integer);
alter table t add constraint p check (a > 0) not valid;
alter table t validate constraint p;
