drop function twice(integer);
