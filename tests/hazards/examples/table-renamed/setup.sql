create table orders (
    id     bigint generated always as identity primary key,
    code   varchar(50) not null default 'x',
    amount numeric(10,2),
    state  text,
    at     timestamptz
);
create table items (a integer);
create schema attic;
