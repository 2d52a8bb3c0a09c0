"""Run the command line as `python -m migrator`."""

from .cli import main

if __name__ == "__main__":
    main()
