"""Tests of the history tables."""
