create publication own for table orders;
alter publication own drop table orders;
