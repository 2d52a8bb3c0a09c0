-- migrator: no-transaction
alter table orders add column note text;
update orders set note = '' where id > 10;
