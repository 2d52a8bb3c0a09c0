-- migrator: lock-timeout 1s

-- No data is lost: the words can be counted again.

alter table posts
    drop column word_count;
