create index orders_at on orders (at);
