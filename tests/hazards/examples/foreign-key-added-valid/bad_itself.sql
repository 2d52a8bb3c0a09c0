alter table orders add constraint orders_parent_fkey foreign key (parent_id) references orders;
