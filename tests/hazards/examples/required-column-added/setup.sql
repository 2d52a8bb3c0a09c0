create table orders (
    id     bigint generated always as identity primary key,
    code   varchar(50) not null default 'x',
    amount numeric(10,2),
    state  text,
    at     timestamptz
);
create table keyed (a integer);
create table parts (id integer) partition by list (id);
create table parts_1 partition of parts for values in (1);
create domain positive as integer check (value > 0);
create domain filled as text default 'x';
