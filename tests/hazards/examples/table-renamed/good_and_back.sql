alter table orders rename to o; alter table o rename to orders;
