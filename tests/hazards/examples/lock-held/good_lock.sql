lock table orders in share row exclusive mode;
create table notes (a integer);
