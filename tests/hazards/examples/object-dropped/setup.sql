create table orders (
    id     bigint generated always as identity primary key,
    code   varchar(50) not null default 'x',
    amount numeric(10,2),
    state  text,
    at     timestamptz
);
create view states as select state from orders;
create materialized view totals as select sum(amount) as amount from orders;
create sequence numbers;
create function twice(integer) returns integer language sql as 'select 2 * $1';
create function f() returns trigger language plpgsql as 'begin return new; end';
create trigger watch after insert on orders for each row execute function f();
create policy p on orders using (true);
create type mood as enum ('sad', 'happy');
create domain positive as integer check (value > 0);
create schema attic;
create rule r as on insert to orders do also select 1;
create table tail (id bigint generated always as identity, a serial);
create trigger watch after insert on tail for each row execute function f();
create foreign data wrapper nothing;
create server elsewhere foreign data wrapper nothing;
create text search configuration words (copy = simple);
create operator === (leftarg = integer, rightarg = integer, function = int4eq);
create type weather as enum ('rain', 'sun');
create function degrees_of(weather) returns integer language sql as 'select 20';
create cast (weather as integer) with function degrees_of(weather);
create publication news for table orders, tail;
create type place as (street text, town text);
