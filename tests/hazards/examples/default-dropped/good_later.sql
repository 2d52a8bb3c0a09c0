alter table orders alter code drop default;
alter table orders alter code set default 'y';
