drop table users cascade;
