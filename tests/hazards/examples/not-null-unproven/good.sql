alter table proven alter column a set not null;
