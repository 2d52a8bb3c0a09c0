alter table orders add constraint f foreign key (a, b) references pairs not valid;
