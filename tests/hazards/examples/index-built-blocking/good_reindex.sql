reindex index concurrently orders_state;
