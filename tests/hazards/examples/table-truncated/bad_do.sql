do $$ begin truncate orders; end $$;
