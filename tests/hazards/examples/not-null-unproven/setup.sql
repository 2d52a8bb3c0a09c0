create table orders (
    id     bigint generated always as identity primary key,
    code   varchar(50) not null default 'x',
    amount numeric(10,2),
    state  text,
    at     timestamptz
);
create table proven (a integer check (a is not null), b integer);
create unique index proven_b on proven (b);
create table unproven (a integer check (a > 0));
create table doubtful (a integer);
alter table doubtful add constraint c check (a is not null) not valid;
create table keyed (a integer);
create unique index keyed_a on keyed (a);
