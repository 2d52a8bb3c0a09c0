"""What pending migrations do to the queries of the running release."""
