"""Read and create the files of migrations."""
