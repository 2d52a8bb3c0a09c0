"""Run the command line, as `migrator` and as `python -m migrator`."""

from __future__ import annotations

import atexit
import gc
import sys

from .cli.app import final_code
from .cli.main import main
from .cli.streams import guard_streams


def run() -> None:
    """Run the command line, and exit.

    Raise the garbage collector's threshold and skip its last pass: the defaults cost 20 % of a
    short run.
    """
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    guard_streams()
    try:
        main()
    except SystemExit as end:
        sys.exit(final_code(end.code))


if __name__ == "__main__":
    run()
