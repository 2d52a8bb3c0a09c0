-- also: constraint-builds-index
alter table orders add column slug text not null unique;
