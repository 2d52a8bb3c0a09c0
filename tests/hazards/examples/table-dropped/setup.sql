create table users (id bigint primary key);
create table orders (id bigint primary key, user_id bigint, parent_id bigint);
create index orders_user on orders (user_id);
create index orders_parent on orders (parent_id);
create view names as select id from users;
create table notes (user_id bigint references users);
create table tail (id bigint);
