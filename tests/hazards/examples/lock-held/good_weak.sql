insert into tags values (1, 'a');
update tags set name = 'b';
select count(*) from tags;
