"""What will make migrations fail or wait: invalid indexes, missing privileges, old transactions."""
