alter table orders add column note text;
alter table tags validate constraint named;
