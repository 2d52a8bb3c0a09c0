alter table orders alter column amount type numeric(12,2);
