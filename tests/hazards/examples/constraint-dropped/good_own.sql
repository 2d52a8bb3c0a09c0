alter table orders add constraint c check (amount < 10) not valid;
alter table orders drop constraint c;
