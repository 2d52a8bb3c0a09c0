alter table items add constraint parent foreign key (order_id) references orders on delete cascade not valid;
