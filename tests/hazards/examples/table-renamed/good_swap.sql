create table new_items (a bigint);
alter table items rename to old_items;
alter table new_items rename to items;
