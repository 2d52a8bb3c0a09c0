drop table if exists tail, nothing;
