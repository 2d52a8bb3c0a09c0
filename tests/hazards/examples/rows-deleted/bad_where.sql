delete from items where note is null;
