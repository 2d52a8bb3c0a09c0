alter table proven alter column a set not null;
alter table proven drop constraint proven_a;
