"""What the program costs, in round trips and against other programs: `make bench`."""
