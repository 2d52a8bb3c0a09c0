create unique index orders_code on orders (code);
