"""Run the command line, as `migrator` and as `python -m migrator`."""

from __future__ import annotations

import atexit
import gc
import sys

from .cli import app
from .cli.main import main


def run() -> None:
    """Be the program of a process of its own.

    Python looks for values that go in circles rarely then, and at the end not at all: there
    are few of them, and to look after every 700 values takes a fifth of a short run.
    """
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    app.guard_streams()
    try:
        main()
    except SystemExit as end:
        sys.exit(app.final_code(end.code))


if __name__ == "__main__":
    run()
