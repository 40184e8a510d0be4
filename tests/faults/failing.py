"""A system call that is refused once, as by a full disk."""

import os
import threading


class NthFails:
    """os.`call`, whose n-th use raises OSError(code); `left`: uses until then, above 0 while it has not failed.

    thread: "main" or "other" counts the uses of that thread, or of the others, alone.
    """

    def __init__(self, call, n, code, thread=None):
        self.original, self.left, self.code, self.thread = getattr(os, call), n, code, thread
        self.lock = threading.Lock()

    def __call__(self, *arguments, **options):
        main = threading.current_thread() is threading.main_thread()
        if self.thread is not None and main != (self.thread == "main"):
            return self.original(*arguments, **options)
        with self.lock:
            self.left -= 1
            fails = self.left == 0
        if fails:
            raise OSError(self.code, os.strerror(self.code))
        return self.original(*arguments, **options)
