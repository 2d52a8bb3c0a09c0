alter table orders alter code drop default, alter code type varchar, alter code set default 'y';
