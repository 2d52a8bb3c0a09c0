create table orders (
    id     bigint generated always as identity primary key,
    code   varchar(50) not null default 'x',
    amount numeric(10,2),
    state  text,
    at     timestamptz
);
create unique index orders_code on orders (code);
create table notes (id integer not null);
create unique index notes_id on notes (id);
create table plain (id integer, span int4range);
