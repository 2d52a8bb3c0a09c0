"""The tables migration_versions and migration_log."""
