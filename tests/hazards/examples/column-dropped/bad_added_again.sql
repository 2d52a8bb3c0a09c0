alter table orders drop column amount, add column amount bigint;
