alter table orders add column note text, add column remark text not null;
