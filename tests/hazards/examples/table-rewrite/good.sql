alter table orders add column amount_cents bigint;
