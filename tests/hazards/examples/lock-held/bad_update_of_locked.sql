-- also: large-update
alter table users add note text;
update users set note = '' where id > 0;
