"""From text to statements to a script."""
