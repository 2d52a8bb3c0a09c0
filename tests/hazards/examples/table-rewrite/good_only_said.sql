-- alter table orders alter column amount type bigint;
select 'alter table orders set unlogged';
