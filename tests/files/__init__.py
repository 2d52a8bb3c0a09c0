"""Tests of the directory of files."""
