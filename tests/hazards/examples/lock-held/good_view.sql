create or replace view names as select name, id from tags;
select 1;
