alter table orders add constraint c unique using index orders_code_new, drop constraint orders_code_key;
