create unique index concurrently orders_code on orders (code);
