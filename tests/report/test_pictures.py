import matplotlib.pyplot as plt
import pytest
import torch

from sparsecnn.data.datasets import load
from sparsecnn.data.images import MNIST_SCALE
from sparsecnn.report.pictures import Subject, side_by_side, values_at_missing_pixels


@pytest.fixture(scope="module")
def digits() -> Subject:
    return Subject("digits")


@pytest.fixture(scope="module")
def shapes() -> Subject:
    return Subject("shapes", sparsity=0.5, seed=1)


def test_a_digit_misses_an_exact_number_and_a_missing_pixel_is_black(digits):
    data = load("digits")
    image, mask = digits.sparse("3")
    original = digits.sparse("3", 0)[0]
    assert (~mask).sum() == int(784 * 0.7)
    assert torch.equal(image, original * mask)
    assert any(torch.equal(original, data.images[i] / 255) for i in (data.labels == 3).nonzero().flatten())


def test_a_stand_in_shows_its_own_classes_and_a_missing_pixel_has_the_mean_colour(shapes):
    data = load("shapes")
    assert tuple(shapes.places) == data.classes[:6]
    image, mask = shapes.sparse("ring")
    assert abs(mask.float().mean() - 0.5) < 0.02
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    assert torch.equal(image[:, ~mask[0]], mean.flatten(1).expand(3, int((~mask).sum())))
    first = data.images[(data.labels == data.classes.index("ring")).nonzero()[0, 0]] / 255
    assert torch.allclose(image[:, mask[0]], first[:, mask[0]], atol=1e-5)


def test_a_scheme_may_be_asked_for_and_masks_of_a_seed_are_nested(shapes):
    masks = [shapes.sparse("disc", level, "exact")[1] for level in (0.3, 0.6)]
    assert [int((~mask).sum()) for mask in masks] == [int(224 * 224 * level) for level in (0.3, 0.6)]
    assert not (masks[1] & ~masks[0]).any()


def test_figures_have_a_picture_for_each_image_and_row(digits, shapes):
    for figure, pictures in (
        (digits.rows(), 18),
        (digits.ladder("3", (0, 0.5, 0.9)), 6),
        (side_by_side([(digits, "3"), (shapes, "disc")], 0.5, "bernoulli"), 4),
    ):
        assert sum(bool(panel.images) for panel in figure.axes) == pictures
        plt.close(figure)


def test_black_pixels_stay_black_and_the_others_turn_black_with_the_sparsity(digits):
    train = load("digits").images[:-360]
    black, shares = digits.black((0, 0.25))
    assert black == pytest.approx(100 * float((train == 0).double().mean()))
    assert shares.loc[0].tolist() == pytest.approx([black, 0])
    assert shares.loc[0.25].tolist() == pytest.approx([black + (100 - black) / 4, (100 - black) / 4])


def test_pixels_near_the_mean_colour_are_counted(shapes, monkeypatch):
    near = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1).repeat(1, 2, 2)
    near[:, 0] += 5 / 255
    near[2, 1, 1] += 6 / 255
    monkeypatch.setattr(shapes, "sparse", lambda name, sparsity: (near, None))
    assert shapes.near_mean_colour() == 75


def test_a_missing_pixel_is_black_on_mnist_and_0_on_caltech_101():
    missing = values_at_missing_pixels()["a missing pixel holds"]
    assert float(missing["MNIST"]) == pytest.approx(-MNIST_SCALE["mean"][0] / MNIST_SCALE["std"][0], abs=5e-4)
    assert missing["Caltech-101"] == "0.000"


def test_the_trained_networks_say_what_they_see_in_a_digit(digits):
    figure = digits.answers("3", 0)
    picture, *bars = figure.axes
    assert picture.get_title() == "0% missing" and len(bars) == 3
    for panel in bars:
        heights = [bar.get_height() for bar in panel.patches]
        assert len(heights) == 10 and sum(heights) == pytest.approx(100, abs=1e-3)
        assert panel.get_title().endswith(f": {max(range(10), key=heights.__getitem__)}")
        bold = [label.get_text() for label in panel.get_xticklabels() if label.get_weight() == "bold"]
        assert bold == ["3"]
    plt.close(figure)
