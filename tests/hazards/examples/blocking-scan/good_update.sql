update orders set state = 'new' where state is null;
