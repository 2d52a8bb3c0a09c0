alter table short alter column code type varchar(100);
