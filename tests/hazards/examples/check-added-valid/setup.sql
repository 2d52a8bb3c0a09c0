create table orders (
    id     bigint generated always as identity primary key,
    code   varchar(50) not null default 'x',
    amount numeric(10,2),
    state  text,
    at     timestamptz
);
alter table orders add constraint positive check (amount > 0) not valid;
create table short (code varchar(50) check (code <> ''));
create table events (id bigint, at date not null) partition by range (at);
create table events_2024 partition of events for values from ('2024-01-01') to ('2025-01-01');
