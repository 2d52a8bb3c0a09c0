-- also: large-update
alter table users add note text;
with first as (select min(id) as id from tags)
update users set note = '' from first where users.id = first.id;
