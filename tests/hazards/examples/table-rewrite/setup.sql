create table orders (
    id     bigint generated always as identity primary key,
    code   varchar(50) not null default 'x',
    amount numeric(10,2),
    state  text,
    at     timestamptz
);
create index orders_code on orders (code);
create materialized view totals as select state, count(*) as count from orders group by state;
create unique index totals_state on totals (state);
