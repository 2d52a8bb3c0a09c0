alter table orders alter column amount drop default;
