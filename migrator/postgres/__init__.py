"""The server: connections, the pipeline, locks, activity, the catalog."""
