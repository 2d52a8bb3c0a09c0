drop cast (weather as integer);
