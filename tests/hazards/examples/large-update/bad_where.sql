update orders set state = 'open' where amount > 0;
