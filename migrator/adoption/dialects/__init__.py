"""How the tables and the files of each tool are read."""
