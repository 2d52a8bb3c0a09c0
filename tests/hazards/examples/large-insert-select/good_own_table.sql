create table copies (id bigint);
insert into copies values (1);
create table more as select * from copies;
