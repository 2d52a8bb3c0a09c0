-- from: 15
merge into orders using items on orders.id = items.order_id
when matched then update set state = 'open';
