"""The tests: real PostgreSQL, no mocks."""
