-- migrator: no-transaction
begin;
alter table orders add column note text;
insert into tags values (1, 'a');
commit;
