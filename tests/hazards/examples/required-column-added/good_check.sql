alter table orders add column tax numeric check (tax > 0);
