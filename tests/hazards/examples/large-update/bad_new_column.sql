-- also: lock-held
alter table orders add total numeric;
update orders set total = amount;
