"""What the rows of the target say to a pending migration."""
