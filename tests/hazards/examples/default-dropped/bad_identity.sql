alter table orders alter id drop identity;
