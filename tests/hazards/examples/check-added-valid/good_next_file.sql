alter table orders validate constraint positive;
