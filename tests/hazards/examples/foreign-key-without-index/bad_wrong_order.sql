create table items (user_id bigint references users, a bigint);
create index on items (a, user_id);
