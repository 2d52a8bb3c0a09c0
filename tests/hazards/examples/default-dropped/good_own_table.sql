create table own (code text not null default 'x');
alter table own alter code drop default;
