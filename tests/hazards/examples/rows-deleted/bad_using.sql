delete from items using orders where orders.id = items.order_id;
