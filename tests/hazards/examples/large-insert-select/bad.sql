insert into items select id, id, code from orders;
