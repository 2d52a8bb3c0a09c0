create table orders (
    id     bigint generated always as identity primary key,
    code   varchar(50) not null default 'x',
    amount numeric(10,2),
    state  text,
    at     timestamptz
);
create table events (id bigint, at date not null) partition by range (at);
create table events_2024 (id bigint, at date not null);
create table events_2025 (id bigint, at date not null,
    constraint bounds check (at >= '2025-01-01' and at < '2026-01-01'));
create domain amount_of_money as numeric;
create table payments (id bigint, paid amount_of_money);
create table stamps (at timestamp);
create index on stamps (at);
create table days (at date primary key) partition by range (at);
create table days_1 partition of days for values from ('2024-01-01') to ('2025-01-01');
create table visits (at date references days);
create index on visits (at);
create table weeks (at date primary key) partition by range (at);
create table weeks_1 partition of weeks for values from ('2024-01-01') to ('2025-01-01');
