alter table orders add constraint pair foreign key (b, other_id) references pairs not valid;
