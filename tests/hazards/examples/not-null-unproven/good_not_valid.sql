-- from: 18
alter table orders add constraint n not null state not valid;
