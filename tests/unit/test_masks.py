"""What is hidden, and with what: the laws of the masks, and that no method sees what it is asked for."""

import numpy as np
import pytest
import torch

from s2s.methods import make
from s2s.methods.masks import (
    PAIRS,
    anywhere,
    blocks,
    donut,
    draw_pairs,
    grown,
    mean_over,
    nearby,
    phase,
    places,
    scattered,
    sub_images,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def numbered(height, width, count=1):
    """Images whose pixels are their own numbers."""
    return torch.arange(height * width, dtype=torch.float32).view(1, 1, height, width).repeat(count, 1, 1, 1)


@pytest.mark.parametrize("shape", [(64, 64), (37, 53)])
def test_one_pixel_is_scattered_in_every_box(shape):
    y = numbered(*shape, count=50)
    chosen = scattered(y, 8)
    assert chosen.shape == y.shape
    whole = chosen[..., : shape[0] // 8 * 8, : shape[1] // 8 * 8].float()
    assert (torch.nn.functional.avg_pool2d(whole, 8) * 64 == 1).all()
    assert chosen[:, 0, :8, :8].float().mean(0).max() < 0.2  # anywhere in its box


def test_a_grid_is_shifted_and_regular():
    y = numbered(60, 66, count=200)
    chosen = blocks(y, (6, 11), (1, 1), places(y, (6, 11)))
    assert (chosen.sum((1, 2, 3)) == 10 * 6).all()
    rows, columns = chosen.any(-1)[:, 0], chosen.any(-2)[:, 0]
    assert (rows.nonzero()[:, 1].view(200, 10).diff() == 6).all()
    assert (columns.nonzero()[:, 1].view(200, 6).diff() == 11).all()
    assert torch.unique(rows.float().argmax(1)).tolist() == list(range(6))
    assert torch.unique(columns.float().argmax(1)).tolist() == list(range(11))


def test_blocks_have_their_size_and_place():
    found = blocks(numbered(20, 30), (8, 10), (3, 4), torch.tensor([[1, 2], [7, 9]]))
    assert found.shape == (2, 1, 20, 30)
    rows, columns = found.any(-1)[:, 0], found.any(-2)[:, 0]
    assert rows[0].nonzero().flatten().tolist() == [1, 2, 3, 9, 10, 11, 17, 18, 19]
    assert rows[1].nonzero().flatten().tolist() == [0, 1, 7, 8, 9, 15, 16, 17]  # the block before the first, cut
    assert columns[1].nonzero().flatten().tolist() == [0, 1, 2, 9, 10, 11, 12, 19, 20, 21, 22, 29]
    assert torch.equal(found[0, 0], rows[0][:, None] & columns[0][None, :])


def test_phases_share_all_pixels_out():
    y = numbered(9, 14)
    total = sum(phase(y, 3, number).int() for number in range(9))
    assert (total == 1).all()
    assert phase(y, 3, 5)[1::3, 2::3].all()


def test_a_cell_grows_about_each_pixel():
    mask = torch.zeros(1, 1, 20, 20, dtype=torch.bool)
    mask[..., 8, 9] = True
    cell = grown(mask, (5, 9))
    assert cell.sum() == 45
    assert cell[..., 6:11, 5:14].all()


@pytest.mark.parametrize("shape", [(64, 64), (5, 7)])
def test_a_neighbour_is_never_the_pixel_itself_nor_far_away(shape):
    y = numbered(*shape, count=40)
    drawn = nearby(y, 2).long()
    down = torch.div(drawn, shape[1], rounding_mode="floor") - torch.arange(shape[0])[:, None]
    right = drawn % shape[1] - torch.arange(shape[1])
    assert (drawn != y.long()).all()
    assert down.abs().max() <= 2
    assert right.abs().max() <= 2
    if shape == (64, 64):
        inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
        places = torch.bincount((5 * (down[inner] + 2) + right[inner] + 2).flatten(), minlength=25)
        assert places[12] == 0
        assert places.float().div(places.sum())[places > 0].tolist() == pytest.approx([1 / 24] * 24, rel=0.05)


def test_values_from_anywhere_are_those_of_the_same_image():
    y = torch.stack([torch.rand(1, 16, 16), 5 + torch.rand(1, 16, 16)])
    drawn = anywhere(y)
    for image, values in zip(y, drawn, strict=True):
        assert torch.isin(values, image).all()
        assert torch.unique(values).numel() > 100


def test_the_donut_is_the_mean_of_the_others():
    y = torch.rand(2, 1, 9, 7)
    found = donut(y)
    sides = y[..., 3, 4] + y[..., 5, 4] + y[..., 4, 3] + y[..., 4, 5]
    corners = y[..., 3, 3] + y[..., 3, 5] + y[..., 5, 3] + y[..., 5, 5]
    torch.testing.assert_close(found[..., 4, 4], (sides + 0.5 * corners) / 6)
    torch.testing.assert_close(found[..., 0, 0], (y[..., 0, 1] + y[..., 1, 0] + 0.5 * y[..., 1, 1]) / 2.5)
    torch.testing.assert_close(donut(torch.full_like(y, 0.3)), torch.full_like(y, 0.3))


@pytest.mark.parametrize("shape", [(64, 64), (37, 53)])
def test_pairs_lie_beside_each_other_and_all_eight_are_as_likely(shape):
    y = numbered(*shape, count=20)
    pairs = draw_pairs(y)
    first, second = sub_images(y, pairs)
    assert first.shape == second.shape == (20, 1, shape[0] // 2, shape[1] // 2)
    apart = (first - second).abs()
    assert ((apart == 1) | (apart == shape[1])).all()
    counts = [((pairs[:, 0] == a) & (pairs[:, 1] == b)).float().mean().item() for a, b in PAIRS]
    assert sum(counts) == pytest.approx(1.0)
    assert counts == pytest.approx([1 / 8] * 8, rel=0.1)


def test_the_mean_of_a_sub_image_is_that_of_its_block():
    y = torch.rand(1, 1, 16, 16).expand(4000, -1, -1, -1)
    first, second = sub_images(y, draw_pairs(y))
    expected = torch.nn.functional.avg_pool2d(y[:1], 2)
    torch.testing.assert_close(first.mean(0, True), expected, atol=0.03, rtol=0.0)
    torch.testing.assert_close(second.mean(0, True), expected, atol=0.03, rtol=0.0)


def test_a_mean_over_nothing_is_no_error():
    values = torch.rand(2, 1, 4, 4)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    assert mean_over(values, mask) == 0
    mask[1, 2] = True
    torch.testing.assert_close(mean_over(values, mask), values[:, 0, 1, 2].mean())


# What the networks see.


def random_method(name, **settings):
    method = make(name, "toy", width=4, **settings).double()
    for parameter in method.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return method


@pytest.mark.parametrize("name", ["noise2void", "structn2v"])
def test_what_is_asked_for_is_hidden(name):
    """Whatever the asked pixels were, and the cells about them, the network is given the same."""
    method = random_method(name)
    y = torch.rand(2, 1, 48, 64, dtype=torch.float64)
    rows, columns = getattr(method, "cell", (1, 1))
    torch.manual_seed(3)
    given, asked = method.hide(y)
    changed = given != y
    assert (changed[asked]).all()
    assert torch.equal(changed | grown(asked, (rows, columns)), grown(asked, (rows, columns)))
    # Influence of the image on what is given, at the middle of a cell.
    image, row, column = (int(one) for one in asked[:, 0].nonzero()[len(asked.nonzero()) // 3])
    top, left = max(row - rows // 2, 0), max(column - columns // 2, 0)
    cell = (image, 0, slice(top, row + rows // 2 + 1), slice(left, column + columns // 2 + 1))
    if name == "structn2v":
        kept = given[cell]
        assert not torch.isclose(kept, y[cell]).any()


def test_noise2self_is_j_invariant():
    """The diagonal of the Jacobian is zero on the hidden phase, and in use with `invariant`."""
    method = random_method("noise2self", invariant=True, depth=1)
    y = torch.rand(1, 1, 16, 16, dtype=torch.float64)
    for hidden in (lambda y: method.estimate(method.without(y, 6)[0]), method.infer):
        jacobian = torch.autograd.functional.jacobian(hidden, y).view(256, 256)
        asked = phase(y, 4, 6).flatten() if hidden != method.infer else torch.ones(256, dtype=torch.bool)
        assert jacobian.abs().sum(1)[asked].min() > 0
        assert jacobian.diagonal()[asked].abs().max() == 0
    seen = random_method("noise2self", depth=1)
    jacobian = torch.autograd.functional.jacobian(seen.infer, y).view(256, 256)
    assert jacobian.diagonal().abs().min() > 0


@pytest.mark.parametrize("residual", [True, False])
def test_inpainting_sees_nothing_of_the_cell_about_a_pixel(residual):
    method = random_method("inpaint", depth=1, cell=(3, 5), middle=(2, 3), every=(3, 4), residual=residual)
    y = torch.rand(1, 1, 24, 36, dtype=torch.float64, requires_grad=True)
    clean = method.infer(y)
    for row, column in ((0, 0), (11, 17), (12, 18), (23, 35), (7, 30)):
        (gradient,) = torch.autograd.grad(clean[0, 0, row, column], y, retain_graph=True)
        cell = gradient[0, 0, max(row - 1, 0) : row + 2, max(column - 2, 0) : column + 3]
        assert not cell.any()
        assert gradient.any()


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_neighbor2neighbor_by_hand(progress):
    method = random_method("neighbor2neighbor", depth=1)
    y = torch.rand(2, 1, 32, 32, dtype=torch.float64)
    torch.manual_seed(5)
    found = method.loss({"y": y}, progress)
    torch.manual_seed(5)
    pairs = draw_pairs(y).numpy()
    blocks = {name: image.detach().numpy() for name, image in (("y", y), ("clean", method.estimate(y)))}
    picked = {}
    for name, image in blocks.items():
        cells = image[:, 0].reshape(2, 16, 2, 16, 2).transpose(0, 1, 3, 2, 4).reshape(2, 16, 16, 4)
        picked[name] = [np.take_along_axis(cells, pairs[:, k, ..., None], -1)[..., 0] for k in (0, 1)]
    first, second = picked["y"]
    u = method.estimate(torch.from_numpy(first)[:, None]).detach().numpy()[:, 0]
    error, allowed = u - second, picked["clean"][0] - picked["clean"][1]
    by_hand = (np.mean(error**2) + 2.0 * progress * np.mean((error - allowed) ** 2)) / (5.57 / 60) ** 2
    assert float(found.detach()) == pytest.approx(by_hand, rel=1e-3)


def test_sub_images_of_any_size_are_padded_for_the_network():
    method = random_method("neighbor2neighbor", depth=2)
    y = torch.rand(1, 1, 26, 30, dtype=torch.float64)
    assert torch.isfinite(method.loss({"y": y}, 1.0))
    inner = method.padded_estimate(torch.rand(1, 1, 13, 15, dtype=torch.float64))
    assert inner.shape == (1, 1, 13, 15)
