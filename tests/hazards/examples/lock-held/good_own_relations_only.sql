create table items (order_id bigint primary key references orders);
create table notes (a integer);
