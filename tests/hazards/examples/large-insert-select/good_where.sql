insert into items select id, id, code from orders where id = 3;
