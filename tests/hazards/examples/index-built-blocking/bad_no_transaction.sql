-- migrator: no-transaction
create index orders_at on orders (at);
