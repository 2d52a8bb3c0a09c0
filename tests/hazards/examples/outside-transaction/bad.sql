create index concurrently orders_at on orders (at);
