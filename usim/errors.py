"""One tree of errors. Each says what is wrong, where, what is allowed, and the cure; each has one exit code."""


def first_line(error: BaseException) -> str:
    """The first line of a foreign error, or its type when it says nothing: ours are one line each.

    >>> first_line(ValueError("no\\nreason"))
    'no'
    """
    return (str(error).splitlines() or [type(error).__name__])[0]


class UsimError(Exception):
    """Base of every error that usim raises on purpose; `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigError(UsimError):
    """A phantom file, an option or an argument is not usable (exit code 2)."""

    exit_code = 2


class DataError(UsimError):
    """A data file is missing, damaged or not what it claims to be (exit code 3)."""

    exit_code = 3


class ResourceError(UsimError):
    """Disk, memory or permission is lacking (exit code 4)."""

    exit_code = 4
