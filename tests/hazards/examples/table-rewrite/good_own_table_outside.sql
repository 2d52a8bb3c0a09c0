-- migrator: no-transaction
create table notes (a integer);
alter table notes alter column a type bigint;
vacuum full notes;
