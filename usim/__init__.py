"""usim: an ultrasound speckle simulator that knows the truth.

>>> import usim
>>> frame = usim.simulate("cyst")  # doctest: +SKIP
>>> frame.bmode.shape, frame.truth.bmode.shape  # doctest: +SKIP
((512, 512), (512, 512))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usim.batched import Batch
    from usim.beamforming import beamform
    from usim.events import Delays, Diverging, Focused, FullMatrix, PlaneWave
    from usim.frame import Axes, Frame, Truth
    from usim.io.dataset import open_frames as open
    from usim.io.verify import verify
    from usim.medium import Medium
    from usim.phantom.load import load_phantom
    from usim.pipeline import simulate
    from usim.probe import Probe, Waveform
    from usim.rf import RF, simulate_rf
    from usim.scatterers import Scatterers
    from usim.speckle_size import cell_size
    from usim.streams import batches, stream
    from usim.validation import validate

__version__ = "0.1.0"

__all__ = [
    "RF",
    "Axes",
    "Batch",
    "Delays",
    "Diverging",
    "Focused",
    "Frame",
    "FullMatrix",
    "Medium",
    "PlaneWave",
    "Probe",
    "Scatterers",
    "Truth",
    "Waveform",
    "batches",
    "beamform",
    "cell_size",
    "errors",
    "load_phantom",
    "open",
    "simulate",
    "simulate_rf",
    "stream",
    "validate",
    "verify",
]

# Names are imported when they are first used (PEP 562): importing everything takes more than a second.
_HOMES = {
    "Axes": "usim.frame:Axes",
    "Batch": "usim.batched:Batch",
    "Delays": "usim.events:Delays",
    "Diverging": "usim.events:Diverging",
    "Focused": "usim.events:Focused",
    "Frame": "usim.frame:Frame",
    "FullMatrix": "usim.events:FullMatrix",
    "Medium": "usim.medium:Medium",
    "PlaneWave": "usim.events:PlaneWave",
    "Probe": "usim.probe:Probe",
    "RF": "usim.rf:RF",
    "Scatterers": "usim.scatterers:Scatterers",
    "Truth": "usim.frame:Truth",
    "Waveform": "usim.probe:Waveform",
    "batches": "usim.streams:batches",
    "beamform": "usim.beamforming:beamform",
    "cell_size": "usim.speckle_size:cell_size",
    "load_phantom": "usim.phantom.load:load_phantom",
    "open": "usim.io.dataset:open_frames",
    "simulate": "usim.pipeline:simulate",
    "simulate_rf": "usim.rf:simulate_rf",
    "stream": "usim.streams:stream",
    "validate": "usim.validation:validate",
    "verify": "usim.io.verify:verify",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("usim.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'usim' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
