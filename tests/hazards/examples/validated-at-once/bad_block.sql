-- migrator: no-transaction
begin;
alter table notes add constraint small check (a < 9) not valid;
alter table notes validate constraint small;
commit;
