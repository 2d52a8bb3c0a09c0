alter table orders alter column code type varchar(100);
