"""What endangers production."""
