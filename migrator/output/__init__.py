"""How results look: text, JSON, progress, reports."""
