"""`python -m usim` is the command `usim`."""

import sys

from usim.cli import main

if __name__ == "__main__":  # spawned workers import this module again
    sys.exit(main())
