create table users (id bigint primary key);
create table orders (id bigint primary key, user_id bigint, other_id bigint, a bigint, b bigint);
create index orders_user on orders (user_id);
create index orders_b_a on orders (b, a, user_id);
create index orders_other on orders (id, other_id);
create index orders_some on orders (other_id) where a > 0;
create table pairs (a bigint, b bigint, primary key (a, b));
