-- drop table tail;
select 'drop table tail';
