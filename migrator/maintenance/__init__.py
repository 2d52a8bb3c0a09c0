"""What stands beside a run: the schema file, backups, commands before and after."""
