create table orders (
    id     bigint generated always as identity primary key,
    code   varchar(50) not null default 'x',
    amount numeric(10,2),
    state  text,
    at     timestamptz
);
create table users (id bigint primary key);
create table tags (id bigint primary key, name text);
create view names as select name from tags;
alter table tags add constraint named check (name <> '') not valid;
create materialized view totals as select state, count(*) from orders group by state;
create table proven (a integer, constraint proven_a check (a is not null));
