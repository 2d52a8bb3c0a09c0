create function f() returns trigger language plpgsql as 'begin return new; end';
create trigger watch after insert on orders for each row execute function f();
