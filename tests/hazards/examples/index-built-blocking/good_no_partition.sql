create index empty_at on empty (at);
