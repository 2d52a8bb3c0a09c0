-- migrator: no-transaction
create procedure fill() language plpgsql as $$
begin
    loop
        update orders set state = 'open'
        where id in (select id from orders where state is null limit 5000);
        exit when not found;
        commit;
    end loop;
end
$$;
call fill();
drop procedure fill();
