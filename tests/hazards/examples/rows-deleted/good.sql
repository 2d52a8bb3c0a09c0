create table old as select * from items with no data;
insert into old values (1, 1, '');
delete from old;
