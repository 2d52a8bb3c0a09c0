alter table orders add column note text;
alter table orders rename column note to remark;
