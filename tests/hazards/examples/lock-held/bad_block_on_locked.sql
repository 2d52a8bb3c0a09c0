-- also: large-update
alter table users add note text;
do $$
begin
    update users set note = '' where id > 0;
end
$$;
