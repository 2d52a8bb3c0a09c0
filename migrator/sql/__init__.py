"""Parse SQL text into statements and scripts."""
