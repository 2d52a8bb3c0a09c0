create table orders (
    id     bigint generated always as identity primary key,
    code   varchar(50) not null default 'x',
    amount numeric(10,2),
    state  text,
    at     timestamptz
);
create index orders_state on orders (state);
create index orders_state_at on orders (state, at);
alter table orders add constraint orders_code_key unique (code);
create table tags (a integer);
create index tags_a on tags (a);
