do $$ begin execute 'alter table orders alter column id type integer'; end $$;
