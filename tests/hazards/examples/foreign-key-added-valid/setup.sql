create table users (id bigint primary key);
create table orders (id bigint primary key, user_id bigint, parent_id bigint);
create index orders_user on orders (user_id);
create index orders_parent on orders (parent_id);
create table notes (user_id bigint);
create index notes_user on notes (user_id);
alter table notes add constraint notes_user_fkey foreign key (user_id) references users not valid;
