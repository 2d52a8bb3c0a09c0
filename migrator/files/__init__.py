"""The directory of pairs of files."""
