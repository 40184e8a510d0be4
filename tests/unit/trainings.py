"""Small trainings: what they learn from, where they run, what they tell, and how they are stopped."""

import json

PHANTOM = """\
probe: L11-5v
image: {x: [-4 mm, 4 mm], z: [10 mm, 18 mm], pixels: [48, 40], dynamic_range: 40 dB}
scatterers: {model: field}
background: {echogenicity: 0 dB}
regions:
  - {shape: circle, center: [0 mm, 14 mm], radius: {uniform: [1 mm, 3 mm]}, echogenicity: anechoic}
"""
SURROUNDINGS = {"workers": 0, "device": "cpu", "say": lambda text: None}


def lines(folder):
    """The whole lines of a training's metrics; none before the first."""
    path = folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(True) if line[-1] == "\n"]


def stop_after(steps):
    """A check that lets some steps pass."""
    left = steps

    def check():
        nonlocal left
        left -= 1
        if left <= 0:
            raise KeyboardInterrupt

    return check
