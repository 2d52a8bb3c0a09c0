do $$ begin alter type mood rename to feeling; end $$;
