alter table orders alter column state set statistics 500;
select 1;
