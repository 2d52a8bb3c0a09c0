alter table orders add constraint f foreign key (user_id) references users not valid;
