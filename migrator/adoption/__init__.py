"""Take over the files and the history of another migration tool."""
