create table items (user_id bigint);
create index items_user on items (user_id);
alter table items add foreign key (user_id) references users;
