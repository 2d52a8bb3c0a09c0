alter table orders drop column amount;
