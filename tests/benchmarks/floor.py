"""What a script in Python costs at the least: no lock, no check, no error with a place.

python floor.py check URL DIRECTORY     read the files, hash them, compare with the history
python floor.py up URL DIRECTORY        apply them all in one pipeline, a transaction each
"""

import hashlib
import sys
from pathlib import Path

import psycopg

HISTORY = "create table if not exists migration_versions (version text primary key, checksum text)"
RECORD = "insert into migration_versions values (%s, %s)"

if __name__ == "__main__":
    command, url, directory = sys.argv[1:]
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as conn:
        if command == "up":
            conn.execute(HISTORY)
        rows = conn.execute("select version, checksum from migration_versions").fetchall()
        applied = {version: checksum for version, checksum in rows}  # noqa: C416  (for mypy)
        pending = []
        for path in sorted(Path(directory).glob("*.sql")):
            text = path.read_bytes()
            checksum = hashlib.sha256(text.rstrip()).hexdigest()
            version = path.name.removesuffix(".up.sql")
            if version != path.name and applied.get(version) != checksum:
                pending.append((version, checksum, text))
        if command == "up":
            with conn.pipeline():
                for version, checksum, text in pending:
                    conn.execute("begin")
                    for statement in text.rstrip().removesuffix(b";").split(b";\n"):
                        conn.execute(statement)
                    conn.execute(RECORD, (version, checksum))
                    conn.execute("commit")
        elif pending:
            sys.exit(f"{len(pending)} pending")
