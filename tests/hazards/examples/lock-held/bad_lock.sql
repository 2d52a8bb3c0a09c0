lock table orders in share row exclusive mode;
insert into tags values (1, 'a');
