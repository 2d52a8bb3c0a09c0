create table copies (id bigint, state text);
insert into copies values (1, 'open');
update copies set state = 'closed';
