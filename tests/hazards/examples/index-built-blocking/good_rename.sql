alter index orders_state rename to orders_by_state;
