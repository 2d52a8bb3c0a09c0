drop index if exists orders_state;
