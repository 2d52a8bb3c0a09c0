create table items (id bigint primary key, order_id bigint references orders);
create index on items (order_id);
insert into items values (1, null);
