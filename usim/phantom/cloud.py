"""Scatterers that the user brings: an .npz file with `position` (N, 3) in metres and `amplitude` (N,)."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from usim.errors import DataError
from usim.phantom.files import locate, read_file
from usim.phantom.schema import CloudFile, Scene
from usim.scatterers import Scatterers

if TYPE_CHECKING:
    from usim.phantom.load import Phantom

# 2e8 scatterers of 32 bytes: more than any machine images in reasonable time.
MOST_BYTES: Final = 6_400_000_000
# No probe sees farther; larger numbers are millimetres written as metres.
FARTHEST: Final = 0.5


def read_cloud(path: str | Path, sha256: str = "") -> tuple[Scatterers, str]:
    """Return the scatterers of a file and the file's sha256.

    Raises DataError when the file is missing, damaged, not what it should hold, or has another hash than `sha256`.
    """
    path = Path(path)
    raw, digest = read_file(path, "scatterer file", MOST_BYTES, sha256)
    arrays = _arrays(raw, path)
    try:
        cloud = Scatterers(position=arrays["position"], amplitude=arrays["amplitude"])
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    farthest = float(np.abs(cloud.position).max(initial=0.0))
    if farthest > FARTHEST:
        raise DataError(f"{path}: position holds {farthest:g} m, beyond {FARTHEST} m; were millimetres meant?")
    return cloud, digest


def load_cloud(phantom: Phantom, scene: Scene) -> Scatterers | None:
    """Return the scatterers of a scene whose cloud is a file, None when the simulator draws its own."""
    if not isinstance(scene.scatterers, CloudFile):
        return None
    return read_cloud(locate(phantom.base, scene.scatterers.file), scene.scatterers.sha256)[0]


def mean_strength(cloud: Scatterers) -> tuple[float, bool]:
    """Return the sum of a^2 over the size of the cloud's box, and whether the cloud lies in one plane (y constant).

    The size is a volume in m^3, or for a plane cloud an area in m^2. Amplitudes of a file are relative: this is the
    strength that counts as 0 dB. Raises DataError when the cloud has no extent in x or z, or only zero amplitudes.
    """
    wide, thick, deep = np.ptp(cloud.position, axis=0) if len(cloud) else np.zeros(3)
    total = float((cloud.amplitude**2).sum())
    if not (wide > 0.0 and deep > 0.0 and total > 0.0):
        raise DataError(
            "scatterers.file: the cloud needs an extent in x and z and amplitudes other than 0: its mean strength "
            "is what 0 dB means; for single targets use `points`"
        )
    flat = bool(thick == 0.0)
    return total / float(wide * deep * (1.0 if flat else thick)), flat


def _arrays(raw: bytes, path: Path) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            # The directory of the archive says how large each array is, before anything is unpacked.
            size = sum(entry.file_size for entry in archive.infolist())
            if size > MOST_BYTES:
                raise DataError(f"{path}: unpacks to {size} bytes, more than {MOST_BYTES}")
        with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("position", "amplitude") if name in archive}
    except DataError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DataError(f"{path}: not a readable .npz file ({error})") from None
    for name in ("position", "amplitude"):
        if name not in arrays:
            raise DataError(f"{path}: holds no array '{name}'; expected position (N, 3) in metres and amplitude (N,)")
        if arrays[name].dtype.kind not in "fiu":
            raise DataError(f"{path}: {name} has dtype {arrays[name].dtype}, expected real numbers")
    return arrays
