create table notes (a integer);
create index notes_a on notes (a);
drop index notes_a;
