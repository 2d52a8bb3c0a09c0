alter table doubtful alter column a set not null;
