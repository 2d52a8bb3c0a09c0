alter table orders drop column at;
