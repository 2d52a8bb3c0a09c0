alter table orders add constraint f foreign key (other_id) references users not valid;
