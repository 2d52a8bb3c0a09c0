alter table orders add column s filled not null;
