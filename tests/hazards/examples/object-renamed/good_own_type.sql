create type t as enum ('a');
alter type t rename to u;
