create table totals as select state, sum(amount) from orders group by state;
