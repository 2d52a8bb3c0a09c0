create table items (user_id bigint references users);
create index items_user on items (user_id);
