-- also: check-added-valid
alter table orders add column note text not null, add constraint c check (amount > 0);
