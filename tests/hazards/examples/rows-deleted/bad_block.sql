do $$
begin
    delete from items where note is null;
end
$$;
