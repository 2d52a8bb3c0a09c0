create table items (user_id bigint references users);
create index on items ((user_id + 1), user_id);
