-- from: 15
merge into items using orders on orders.id = items.order_id when matched then delete;
