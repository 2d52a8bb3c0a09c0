"""Run the command line, as `migrator` and as `python -m migrator`."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from contextlib import suppress

from .interrupts import StoppedError, ignore_signals, raise_on_signals


def run() -> None:
    """Run the command line, and exit.

    Raise the garbage collector's threshold and skip its last pass: the defaults cost 20 % of a
    short run.
    """
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    try:
        raise_on_signals()
        code = _command_line()
        if isinstance(code, int) and code > 128:
            # Python would wait for whoever reads stdout.
            os._exit(code)
        ignore_signals()
    except StoppedError as stop:
        # While the program is loaded, or again while it says that it is stopped.
        os._exit(_say_stopped(stop))
    sys.exit(code)


def _command_line() -> str | int | None:
    # Loading takes long enough to be interrupted.
    from .cli.app import final_code  # noqa: PLC0415
    from .cli.main import main  # noqa: PLC0415
    from .cli.streams import guard_streams  # noqa: PLC0415

    guard_streams()
    try:
        main()
    except SystemExit as end:
        return final_code(end.code)
    return 0


def _say_stopped(stop: StoppedError) -> int:
    ignore_signals()
    with suppress(OSError):
        os.write(2, b"error: interrupted\n")
    return 128 + stop.signal


if __name__ == "__main__":
    run()
