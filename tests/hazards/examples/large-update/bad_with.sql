with cheap as (select id from orders where amount < 1)
update orders set state = 'cheap' from cheap where cheap.id = orders.id;
