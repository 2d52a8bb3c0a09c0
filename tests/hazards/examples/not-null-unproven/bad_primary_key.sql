alter table keyed add primary key using index keyed_a;
