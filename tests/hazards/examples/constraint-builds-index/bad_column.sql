alter table orders add column slug text unique;
