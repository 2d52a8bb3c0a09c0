alter table unproven alter column a set not null;
