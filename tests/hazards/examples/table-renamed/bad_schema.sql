alter table orders set schema attic;
