alter table doubtful alter column a set not null, add column q integer default 1;
