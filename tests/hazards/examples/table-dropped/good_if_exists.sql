drop table if exists nothing;
