-- migrator: no-transaction

-- migrator: backfill orders
update orders set state = 'open' where state is null /* batch */;
