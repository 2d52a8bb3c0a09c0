drop function twice(integer);
create function twice(integer, integer default 2) returns integer language sql as 'select $1 * $2';
