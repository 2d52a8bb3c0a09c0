alter table proven alter column a set not null, add constraint c check (b > 0);
