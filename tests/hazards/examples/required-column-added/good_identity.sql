alter table keyed add column id bigint generated always as identity;
