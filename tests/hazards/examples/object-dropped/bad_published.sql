alter publication news drop table orders;
