"""Run a plan: transactions, statements outside one, retries, recovery, errors."""
