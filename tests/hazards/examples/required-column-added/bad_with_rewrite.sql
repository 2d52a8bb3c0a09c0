-- also: table-rewrite
alter table orders add column note text not null, add column u uuid default gen_random_uuid();
