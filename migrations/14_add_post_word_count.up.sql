-- migrator: lock-timeout 1s

-- The number of words of a post, from which a tribe's page tells how long it takes to read.
--
-- After this, deploy the application that writes it with every new or edited post.  Then 15 counts
-- the words of the posts from before.
--
-- Locks: ACCESS EXCLUSIVE on posts, for milliseconds: a new column that is null in all rows needs
-- neither a scan nor a rewrite of the table.

alter table posts
    add column word_count integer;
