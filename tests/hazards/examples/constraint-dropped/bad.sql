alter table orders drop constraint orders_code_key;
