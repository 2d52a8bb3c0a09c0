drop rule r on orders;
