create view v as select 1 as a;
create type t as enum ('a');
drop type t;
drop view v;
