"""How two schemas differ, what a script changed, and the SQL that makes one of the other."""
