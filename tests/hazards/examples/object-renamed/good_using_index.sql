create table t (a integer not null);
create unique index i on t (a);
alter table t add constraint k unique using index i;
