"""Around a run: the schema file, backups, commands before and after, new file numbers."""
