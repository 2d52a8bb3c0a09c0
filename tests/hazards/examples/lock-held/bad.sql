-- also: large-update
alter table orders add column note text;
update orders set note = '' where id > 10;
