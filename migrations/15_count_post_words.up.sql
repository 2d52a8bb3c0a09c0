-- migrator: no-transaction

-- Count the words of the posts from before 14, which may be millions, in batches.
--
-- Each batch is a transaction of about 100 ms, so nobody waits longer than that for a row, and
-- VACUUM can remove old versions of rows meanwhile.  It also records how far it has come: after
-- Ctrl-C or a crash, the next up goes on from there.  "batch" becomes a range of blocks of the
-- table; to psql it is a comment, and this is one update.
--
-- The condition leaves out rows that are done: by this file, or by the application.

-- migrator: backfill posts
update posts
set word_count = cardinality(regexp_split_to_array(btrim(body), '\s+'))
where word_count is null /* batch */;
