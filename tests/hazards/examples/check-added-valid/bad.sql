alter table orders add constraint short_state check (length(state) < 20);
