-- also: large-update
create or replace view names as select name, id from tags;
update tags set name = 'b' where id > 10;
