alter table tags add column note text;
alter table tags validate constraint named;
