alter table orders add column note text;
alter table tags add column note text;
