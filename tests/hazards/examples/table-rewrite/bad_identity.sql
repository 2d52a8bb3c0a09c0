alter table orders add column serial_number bigint generated always as identity;
