create table orders (
    id     bigint generated always as identity primary key,
    code   varchar(50) not null default 'x',
    amount numeric(10,2),
    state  text
);
create table items (id bigint primary key, order_id bigint, note text);
create index on items (order_id);
create table days (at date) partition by range (at);
create table days_1 partition of days for values from ('2024-01-01') to ('2025-01-01');
create view open_orders as select * from orders where state = 'open';
create procedure sweep() language plpgsql as 'begin delete from items; end';
