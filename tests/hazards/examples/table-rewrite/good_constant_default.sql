alter table orders add column priority integer not null default 0;
