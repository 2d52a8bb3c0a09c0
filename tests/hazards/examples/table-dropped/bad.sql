drop table tail;
