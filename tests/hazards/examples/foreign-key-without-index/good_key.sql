create table items (user_id bigint primary key references users);
