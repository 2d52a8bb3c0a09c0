alter table orders alter column state type varchar;
