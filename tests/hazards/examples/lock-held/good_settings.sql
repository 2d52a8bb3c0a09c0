set local lock_timeout = '1s';
alter table orders add column note text;
reset lock_timeout;
