create or replace view states as select state, 1 as one from orders;
