insert into items select 1, 1, 'x';
