create table orders (
    id     bigint generated always as identity primary key,
    code   varchar(50) not null default 'x',
    amount numeric(10,2),
    state  text,
    at     timestamptz
);
alter table orders add constraint orders_code_key unique (code);
alter table orders add constraint positive check (amount > 0);
create unique index orders_code_new on orders (code);
