alter table orders add constraint c check (state <> '') not valid, validate constraint c;
