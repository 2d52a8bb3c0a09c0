drop materialized view totals;
create materialized view totals as select state, count(*) from orders group by state;
