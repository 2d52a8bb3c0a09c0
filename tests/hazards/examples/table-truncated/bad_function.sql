create function empty() returns void language sql as 'truncate orders';
select empty();
