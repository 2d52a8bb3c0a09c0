update orders set state = 'open';
