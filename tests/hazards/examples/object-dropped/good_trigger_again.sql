drop trigger if exists watch on orders;
create trigger watch after update on orders for each row execute function f();
