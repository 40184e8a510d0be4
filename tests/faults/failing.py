"""A system call that is refused once, as by a full disk."""

import os


class NthFails:
    """os.`call`, whose n-th use raises OSError(code); `left`: uses until then, above 0 while it has not failed."""

    def __init__(self, call, n, code):
        self.original, self.left, self.code = getattr(os, call), n, code

    def __call__(self, *arguments, **options):
        self.left -= 1
        if self.left == 0:
            raise OSError(self.code, os.strerror(self.code))
        return self.original(*arguments, **options)
