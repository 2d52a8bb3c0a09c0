drop view states;
create view states as select amount from orders;
