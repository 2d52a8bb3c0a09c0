alter table plain add primary key (id);
