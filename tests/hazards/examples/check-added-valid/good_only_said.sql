comment on table orders is 'add check (a > 0)';
