-- migrator: no-transaction

-- Forget all numbers, in batches as well.  No data is lost: the words can be counted again.

-- migrator: backfill posts
update posts
set word_count = null
where word_count is not null /* batch */;
