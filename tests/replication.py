"""Physical copies of a server: standbys, and what a backup restores."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from migrator.embedded.server import postgres_command
from tests.conftest import Postgres, find_program, free_port, serve
from tests.sessions import wait_for


@contextmanager
def serving_standbys() -> Iterator[Postgres]:
    """Run a server that lets a standby connect."""
    with serve() as postgres:
        rules = postgres.server.data / "pg_hba.conf"
        with rules.open("a") as file:
            file.write("host replication all 127.0.0.1/32 trust\n")
        with psycopg.connect(postgres.url(), autocommit=True) as conn:
            # The checkpoint of a second copy may remove what the standby has not yet read.
            conn.execute("alter system set wal_keep_size = '1GB'")
            conn.execute("select pg_reload_conf()")
            conn.execute("create role copier replication login")
            conn.execute("create role reader superuser login password 'secret'")
        yield postgres


@contextmanager
def copied(primary: Postgres, *options: str) -> Iterator[str]:
    """Run a physical copy, and give the start of its URL: the name of a database follows."""
    folder = Path(tempfile.mkdtemp(prefix="migrator-standby-"))
    folder.chmod(0o755)
    data, port, account = folder / "data", free_port(), primary.server.account
    source = f"postgresql://copier@127.0.0.1:{primary.server.port}"
    copy = (*options, "-c", "fast", "-d", source)
    program = find_program("pg_basebackup", primary)
    subprocess.run([program, "-D", data, *copy], check=True)
    if account:
        for path in (folder, data, *data.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)
    server, *_ = postgres_command(primary.server, folder)
    settings = (
        "max_connections=200",
        "max_prepared_transactions=10",
        "listen_addresses=127.0.0.1",
        # A newer pg_basebackup writes keywords here that an older server does not know.
        f"primary_conninfo=host=127.0.0.1 port={primary.server.port} user=copier",
    )
    given = [part for each in settings for part in ("-c", each)]
    process = subprocess.Popen(
        [server, "-D", data, "-p", str(port), "-k", folder, *given],
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
        cwd="/",
        env={"LC_ALL": "C"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"postgresql://reader:secret@127.0.0.1:{port}/"

    def answers() -> bool:
        try:
            psycopg.connect(f"{url}postgres").close()
        except psycopg.OperationalError:
            assert process.poll() is None, "the copy did not start"
            return False
        return True

    try:
        wait_for(answers)
        yield url
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder)
