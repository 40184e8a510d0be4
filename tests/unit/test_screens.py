"""Training images as scanners' screens show them, and networks that fold pixels into channels."""

import numpy as np
import pytest
import torch

from s2s.data import Simulation
from s2s.methods import make
from s2s.nets.unet import UNet
from usim.errors import ConfigError
from usim.phantom.load import phantom_from_text

PHANTOM = """\
probe: L11-5v
image: {{x: [-2 mm, 2 mm], z: [14 mm, 18 mm], pixels: [24, 24]}}
scatterers: {{model: field}}
background: {{echogenicity: 0 dB}}
regions: [{{shape: circle, center: [0 mm, 16 mm], radius: 1 mm, echogenicity: -12 dB}}]
{display}
"""
POWER = "display: {gain: 3 dB, curve: {type: power, exponent: 0.4, black: -50 dB}}"


def source(display, looks, screens):
    return Simulation(phantom_from_text(PHANTOM.format(display=display)), 3, ("y", "x"), looks, (0.0, 0.0), screens)


def test_the_truth_of_a_screen_is_the_mean_of_what_it_shows():
    looks = source(POWER, 400, 1.0).open()(0)
    shown = np.mean([look["y"] for look in looks], axis=0)
    spread = np.std([look["y"] for look in looks], axis=0)
    # neighbouring pixels are alike: five standard errors of a single one hold for all
    assert (np.abs(shown - looks[0]["x"]) < 5.0 * spread / np.sqrt(400) + 0.05).all()


def test_a_logarithmic_screen_of_sixty_decibels_changes_nothing_but_the_steps():
    display = "display: {curve: {type: log, dynamic_range: 60 dB}}"
    seen, plain = (source(display, 1, share).open()(0)[0] for share in (1.0, 0.0))
    assert np.abs(seen["y"] - np.maximum(plain["y"], -60.0)).max() <= 0.5 * 60.0 / 255.0 + 1e-4


def test_scenes_without_a_display_stay_as_they_are():
    some, none = (source("", 1, share).open()(0)[0] for share in (1.0, 0.0))
    assert np.array_equal(some["y"], none["y"])
    assert np.array_equal(some["x"], none["x"])


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_a_pixel_does_not_depend_on_what_lies_beyond_the_halo(fold):
    torch.manual_seed(0)
    net = UNet(width=4, depth=1, fold=fold).eval()
    torch.nn.init.normal_(net.last.weight)
    side = -(-(2 * net.halo + 8) // net.multiple) * net.multiple
    image = torch.randn(1, 1, 4 * net.multiple, side)
    changed = image.clone()
    changed[..., -1] += 1.0
    with torch.no_grad():
        moved = (net(changed) - net(image)).abs().amax((0, 1, 2))
    reached = side - 1 - int(torch.nonzero(moved)[0])
    assert 0 < reached <= net.halo


def test_levels_grow_no_wider_than_asked():
    net = UNet(width=4, depth=3, widest=8)
    assert [block[0].out_channels for block in net.down] == [4, 8, 8, 8]
    assert UNet(width=4, depth=1, widest=2).down[1][0].out_channels == 4


def test_a_fold_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="fold is 0; allowed is a whole number from 1 to 4"):
        make("noise2true", fold=0)
