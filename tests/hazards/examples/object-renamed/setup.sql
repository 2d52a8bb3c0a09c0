create table orders (
    id     bigint generated always as identity primary key,
    code   varchar(50) not null default 'x',
    amount numeric(10,2),
    state  text,
    at     timestamptz
);
create view states as select state from orders;
create sequence numbers;
create function twice(integer) returns integer language sql as 'select 2 * $1';
create type mood as enum ('sad', 'happy');
create index orders_state on orders (state);
create schema shop;
create type place as (street text, town text);
