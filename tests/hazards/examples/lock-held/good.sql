update tags set name = '' where id > 10;
alter table orders add column note text;
