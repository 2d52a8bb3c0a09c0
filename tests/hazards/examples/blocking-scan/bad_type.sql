set local timezone = 'UTC';
alter table stamps alter column at type timestamptz;
