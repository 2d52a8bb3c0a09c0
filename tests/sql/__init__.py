"""Tests of splitting and parsing."""
