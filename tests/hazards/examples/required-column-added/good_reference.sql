alter table keyed add column order_id bigint references orders;
create index on keyed (order_id);
