"""The PostgreSQL of the project's own."""
