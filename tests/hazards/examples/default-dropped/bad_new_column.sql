alter table orders add kind text not null default 'x';
alter table orders alter kind drop default;
