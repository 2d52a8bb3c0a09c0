alter table orders alter state drop default;
