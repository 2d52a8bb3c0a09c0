"""The tables migration_versions, migration_repeatables and migration_log."""
