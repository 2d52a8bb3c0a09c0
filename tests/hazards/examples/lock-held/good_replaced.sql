alter table tags drop constraint named;
alter table tags add constraint named check (name <> 'x') not valid;
