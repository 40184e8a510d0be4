"""Files that a phantom names: they lie in its folder, and their sha256 says which content is meant."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from usim.errors import ConfigError, DataError, ResourceError

# Where each content was last found, by sha256: a drawn scene is plain data, and knows its files by their content.
_PLACES: Final[dict[str, Path]] = {}


def locate(base: str | Path, file: str) -> Path:
    """Return the path of a file that a phantom in the folder `base` names.

    Raises ConfigError for whatever leads out of that folder: an absolute path, `..`, or a symbolic link.
    """
    folder = Path(base).resolve()
    try:
        path = (folder / file).resolve()
        outside = Path(file).is_absolute() or ".." in Path(file).parts or not path.is_relative_to(folder)
    except (OSError, RuntimeError, ValueError):
        raise ConfigError("this is not a file name") from None
    if outside:
        raise ConfigError(
            "leads out of the phantom's folder; files lie in the folder of the phantom file or below it: copy it there"
        )
    return Path(base) / file


def read_file(path: Path, kind: str, most: int, sha256: str = "") -> tuple[bytes, str]:
    """Return the content of a file and its sha256.

    kind: what it is, in words. most: bytes that are allowed. Raises DataError when the file is missing, too large, or
    has another hash than `sha256`; ResourceError when it can't be read.
    """
    try:
        size = path.stat().st_size
        if size > most:
            raise DataError(f"{path}: {size} bytes; a {kind} may have {most}")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such {kind}; the path starts at the phantom file's folder") from None
    except OSError as error:
        raise ResourceError(f"{path}: can't be read ({error.strerror}); name a file that you may read") from None
    digest = hashlib.sha256(raw).hexdigest()
    if sha256 and digest != sha256:
        raise DataError(f"{path}: sha256 is {digest}, expected {sha256}: the file has changed")
    return raw, digest


def remember(path: Path, sha256: str) -> None:
    """Note where a content lies, for the scenes of this process that name it by its hash."""
    _PLACES[sha256] = path


def is_known(sha256: str) -> bool:
    """Whether a scene with this content was drawn, or its phantom loaded, in this process."""
    return sha256 in _PLACES


def recall(file: str, sha256: str) -> Path:
    """Return where a content lies; DataError when is unknown in this process."""
    if not is_known(sha256):
        raise DataError(f"{file}: not read in this process; draw the scene from its phantom (load_phantom, draw)")
    return _PLACES[sha256]
