-- from: 14
-- migrator: no-transaction
alter table days detach partition days_1 concurrently;
