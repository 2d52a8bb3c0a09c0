drop table tail;
create table tail (id bigint);
