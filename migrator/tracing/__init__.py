"""What one statement did: locks, rewrites, scans, rows."""
