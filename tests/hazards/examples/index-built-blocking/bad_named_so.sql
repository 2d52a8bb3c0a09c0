create index "concurrently" on orders (at);
