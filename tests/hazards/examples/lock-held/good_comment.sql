alter table orders add column note text;
comment on column orders.note is 'what was said';
grant select on orders to public;
