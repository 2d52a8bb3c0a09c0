alter domain amount_of_money add constraint positive check (value > 0) not valid;
