-- from: 18
alter table orders add foreign key (other_id) references users not enforced;
