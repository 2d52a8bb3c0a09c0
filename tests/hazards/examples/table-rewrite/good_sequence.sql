alter sequence orders_id_seq restart with 1000;
