alter table orders add column parent bigint references orders;
create index on orders (parent);
