alter table orders drop constraint positive, add constraint positive check (amount >= 0);
