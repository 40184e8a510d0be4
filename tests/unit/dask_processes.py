"""A dask scheduler and its workers as processes of their own, on loopback."""

import json
import subprocess
import sys
import time

from distributed import Client
from surroundings import PATIENCE, environment

#: Seconds for processes to start on a busy machine.


class Dask:
    """A scheduler; workers join it and leave it, and all end with it. `allowed`: workers that a task may kill."""

    def __init__(self, home, allowed=1):
        self.home, self.children = home, []
        self.environment = environment(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=str(allowed))
        self.file = home / "scheduler.json"
        self.scheduler = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0",
            "--scheduler-file", str(self.file),
        )  # fmt: skip

    def _start(self, role, *arguments):
        with (self.home / f"{role}-{len(self.children)}.log").open("wb") as log:
            command = [sys.executable, "-m", f"distributed.cli.dask_{role}", *arguments]
            child = subprocess.Popen(command, env=self.environment, cwd=self.home, stdout=log, stderr=log)
        self.children.append(child)
        return child

    def worker(self, *arguments):
        """Start a worker of one thread; it need not have joined yet."""
        return self._start(
            "worker", "--scheduler-file", str(self.file), "--no-nanny", "--nthreads", "1", "--memory-limit", "0",
            "--no-dashboard", "--local-directory", str(self.home), *arguments,
        )  # fmt: skip

    @property
    def address(self):
        deadline = time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < deadline
            try:
                return json.loads(self.file.read_text())["address"]
            except (FileNotFoundError, ValueError):
                time.sleep(0.05)

    def wait(self, count):
        """Wait until `count` workers are there, no more and no fewer."""
        deadline = time.monotonic() + PATIENCE
        with Client(self.address, timeout=PATIENCE, set_as_default=False) as client:
            while len(client.nthreads()) != count:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        return self

    def end(self):
        for child in reversed(self.children):
            child.kill()
            child.wait()
