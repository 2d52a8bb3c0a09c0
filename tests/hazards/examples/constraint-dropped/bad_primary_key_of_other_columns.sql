-- also: constraint-builds-index
-- also: not-null-unproven
alter table orders drop constraint orders_pkey, add constraint orders_pkey primary key (id, state);
