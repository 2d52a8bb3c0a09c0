alter table orders rename to orders_old;
create view orders as select * from orders_old;
