create table notes (a integer);
create index notes_a on notes (a); -- not concurrently
