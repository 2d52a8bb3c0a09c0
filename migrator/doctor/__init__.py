"""What will hurt before it does: invalid indexes, missing privileges, old transactions."""
