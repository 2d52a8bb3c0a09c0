reindex index orders_state;
