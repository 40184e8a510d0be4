"""Poisson2Sparse beside deepinv's own: the same codes and the same terms of the loss from the same numbers.

deepinv is no dependency of ours: these tests run where it is installed (pip install deepinv), and nowhere else.
"""

import pytest
import torch

from s2s.methods import make
from s2s.methods.base import SPECKLE
from s2s.methods.masks import sub_images

pytestmark = [pytest.mark.crosscheck, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def theirs():
    """deepinv's module."""
    try:
        import deepinv.models.poisson2sparse as module
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that does not belong to this torch
        pytest.skip(f"deepinv is not installed, or can't be loaded: {error}")
    return module


@pytest.fixture
def pair(theirs):
    """Our network and deepinv's with the same weights, in double precision."""
    torch.manual_seed(0)
    ours = make("poisson2sparse", "toy", atoms=8, rounds=4, likelihood="poisson").double()
    net = theirs.ConvLista(in_channels=1, out_channels=1, num_filters=8, stride=1, num_iter=5).double()
    with torch.no_grad():
        ours.threshold.add_(0.01 * torch.rand(8, 1, 1))
        net.conv_A.weight.copy_(ours.encode.weight)
        net.conv_B.weight.copy_(ours.decode.weight)
        net.conv_C.weight.copy_(ours.draw.weight)
        net.soft_threshold.thresholds.copy_(ours.threshold.flatten())
    return ours, net


@torch.no_grad()
def test_codes_make_the_same_image(pair):
    """Away from the borders, where deepinv's convolutions end earlier."""
    ours, net = pair
    y = torch.rand(2, 1, 64, 64, dtype=torch.float64)
    edge = 2 * 5 + 2
    inside = (..., slice(edge, -edge), slice(edge, -edge))
    found, expected = ours.infer(y).clamp(0.0, 1.0), net(y)
    assert float(((found > 0.0) & (found < 1.0))[inside].double().mean()) > 0.1
    torch.testing.assert_close(found[inside], expected[inside])


def test_terms_of_the_loss_are_the_same(pair, theirs, monkeypatch):
    """Both with one clean image for all, so that the borders of the networks do not matter.

    Ours are in units of speckle: the difference of halves by the square of it, the distance once; of the likelihood a
    constant that no weight changes is left out.
    """
    from deepinv.loss import Neighbor2Neighbor

    ours, _ = pair
    y = 0.2 + 0.6 * torch.rand(1, 1, 32, 32, dtype=torch.float64)
    torch.manual_seed(1)
    first, second = Neighbor2Neighbor.generate_mask_pair(y)
    places = [mask.reshape(16, 16, 4).to(torch.int64).argmax(-1) for mask in (first, second)]
    drawn = torch.stack(places)[None]
    for one, other in zip(sub_images(y, drawn), (first, second), strict=True):
        torch.testing.assert_close(one, Neighbor2Neighbor.generate_subimages(y, other))
    monkeypatch.setattr("s2s.methods.poisson2sparse.draw_pairs", lambda image: drawn)
    monkeypatch.setattr(Neighbor2Neighbor, "generate_mask_pair", lambda image: (first, second))

    class Net(torch.nn.Module):
        """A network of one number, whose image is known."""

        def __init__(self, scale):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(scale, dtype=torch.float64))

        def forward(self, image):
            return 0.1 + self.scale * image.square()

    gradients = []
    for weights in ((0.0, 0.0), (2.0, 0.0)):
        net = Net(0.5)
        loss = theirs.Poisson2Sparse._Poisson2SparseLoss(weight_n2n=weights[0], weight_l1_regularization=weights[1])
        found, _ = loss(y=y, model=net)
        found.backward()
        gradients.append(net.scale.grad)
    net = Net(0.5)
    given, asked = sub_images(y, drawn)
    made = net(given)
    (likelihood,) = torch.autograd.grad(ours.law(made, asked), net.scale, retain_graph=True)
    (distance,) = torch.autograd.grad(((made - asked) / SPECKLE).abs().mean(), net.scale)
    torch.testing.assert_close(likelihood * SPECKLE**2 + distance * SPECKLE, gradients[0])
    ours.infer = net.forward
    (whole,) = torch.autograd.grad(ours.loss({"y": y}, 0.0), net.scale)
    apart = whole - likelihood - distance
    torch.testing.assert_close(apart * SPECKLE**2, gradients[1] - gradients[0])
