call sweep();
