alter table orders add constraint orders_code_key unique using index orders_code;
