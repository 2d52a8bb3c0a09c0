"""How two schemas differ, and the SQL that makes one of the other."""
