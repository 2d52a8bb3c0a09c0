alter table orders add column twice numeric generated always as (amount * 2) stored;
