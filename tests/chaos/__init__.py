"""Break runs of the program on purpose, at random moments, and look whether the database is right.

`python -m tests.chaos --rounds 1000` runs it at length; `test_chaos` runs it small.  Every
round has a seed of its own, which makes its history, its fault and its moment.
"""
