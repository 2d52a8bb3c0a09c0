-- The schema that the statements of statements.txt run on.

create type mood as enum ('calm', 'angry');
create type address as (street text);
create domain positive as integer;
create function one() returns integer language sql immutable as 'select 1';
create function touch() returns trigger language plpgsql as 'begin return new; end';
create schema archive;
create table archive.shelves (id integer);

create sequence numbers;
create table customers (id integer primary key, name varchar(50), "Full Name" text);
create table orders (
    id integer primary key,
    customer integer,
    code varchar(50) not null,
    price numeric(10, 2) default 0,
    note text,
    state mood,
    amount positive,
    constraint note_given check (note is not null)
);
alter table orders add constraint price_known check (price is not null) not valid;
alter table orders add constraint customer_known foreign key (customer) references customers not valid;
create index orders_code on orders (code);
create unique index orders_note on orders (note);
create trigger touched before update on orders for each row execute function touch();
create trigger stamped before insert on customers for each row execute function touch();
create policy everybody on orders;
create rule silent as on delete to customers do instead nothing;
create view cheap as select id, price from orders where price < 10;
create materialized view totals as select customer, sum(price) as total from orders group by customer;
create unique index totals_customer on totals (customer);
create statistics orders_stats on code, note from orders;
create table lines (id integer primary key, "order" integer constraint order_known references orders, text text);
create index lines_order on lines ("order");
create table events (id integer not null, at date not null) partition by range (id);
create table events_1 partition of events for values from (1) to (100);
create index events_id on events (id);
create table loose (id integer not null, at date not null);
create index loose_id on loose (id);
create table bounded (
    id integer not null,
    at date not null,
    constraint bounds check (id >= 200 and id < 300)
);
create index bounded_id on bounded (id);
create table parent (id integer, kind text);
create table child (toys text) inherits (parent);
create table alone (id integer, kind text, rate numeric(10, 2), at timestamp);
create unlogged table scratch (id integer primary key);
create table columnless ();
insert into customers values (1, 'Ada', 'Ada L.');
insert into orders values (1, 1, 'a', 1, 'n', 'calm', 1), (2, 1, 'b', 2, 'm', 'calm', 2);
insert into lines values (1, 1, 'x');
insert into events values (1, now());
insert into loose values (150, now());
insert into bounded values (250, now());
insert into scratch values (1);
