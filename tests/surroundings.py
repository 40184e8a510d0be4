"""What tests share that start processes of their own, or compare folders."""

import os
import sys

#: Seconds of waiting after which a test says that something hangs. A machine that is shared can be slow and right: how
#: fast things are is asked in benchmarks/, and in the long form of tests whose subject is a time.
PATIENCE = 300.0


def environment(*folders, **more):
    """Variables for a process that imports what this one does, from `folders` first; `more` of them beside."""
    path = os.pathsep.join(path for path in [*map(str, folders), os.getcwd(), *sys.path] if path)
    return {**os.environ, "PYTHONPATH": path, **more}


def contents(folder):
    """The bytes of each file of a dataset but run.json, which differs between equal runs."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.json"}
