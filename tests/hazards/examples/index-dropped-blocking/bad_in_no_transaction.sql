-- migrator: no-transaction
drop index orders_state;
