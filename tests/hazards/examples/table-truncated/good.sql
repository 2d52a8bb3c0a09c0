delete from orders where at < now() - interval '1 year';
