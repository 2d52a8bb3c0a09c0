drop trigger watch on orders;
