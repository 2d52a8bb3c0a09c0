alter table orders drop column code;
