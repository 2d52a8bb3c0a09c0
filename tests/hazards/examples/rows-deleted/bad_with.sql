with gone as (delete from items where id < 100 returning id)
select count(*) from gone;
