do $$
begin
    update orders set state = 'open' where state is null;
end
$$;
