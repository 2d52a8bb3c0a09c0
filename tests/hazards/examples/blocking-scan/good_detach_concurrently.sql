-- from: 14
-- migrator: no-transaction
alter table weeks detach partition weeks_1 concurrently;
