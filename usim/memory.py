"""What Linux tells of the memory of a process, and the peak of it begun anew (proc(5))."""

from __future__ import annotations

import re
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def held_bytes(name: str) -> int | None:
    """Return a figure of this process's status, "VmRSS" for what it holds or "VmHWM" for the most that it held.

    None where the system does not tell it.
    """
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def reset_peak() -> bool:
    """Let "VmHWM" begin anew; return whether the system does."""
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True
