alter table orders add constraint orders_user_fkey foreign key (user_id) references users;
