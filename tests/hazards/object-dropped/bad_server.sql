drop server elsewhere;
