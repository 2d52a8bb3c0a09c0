alter table orders alter code drop default;
