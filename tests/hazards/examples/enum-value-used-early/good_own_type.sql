create type colour as enum ('red', 'blue');
create table t (c colour default 'blue');
