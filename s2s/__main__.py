"""`python -m s2s` is the command `s2s`."""

import sys

from s2s.cli import main

if __name__ == "__main__":  # spawned workers import this module again
    sys.exit(main())
