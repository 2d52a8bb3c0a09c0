"""What pending migrations would do to this database."""
