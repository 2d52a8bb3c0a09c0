"""Compare files with the history, and plan what to run."""
