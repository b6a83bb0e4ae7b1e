import matplotlib.pyplot as plt
import pytest
import torch

from sparsecnn import SparseConvNet
from sparsecnn.experiment import SPARSITIES
from sparsecnn.models import count_parameters
from sparsecnn.report import layer_checks


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_layers_parameters_add_up_to_the_networks():
    table = layer_checks.parameter_counts()
    assert (table.drop(index="total").sum() == table.loc["total"]).all()
    assert table.loc["total", "SparseConvNet"] == count_parameters(SparseConvNet())
    # The mask is one more channel of a 5 x 5 kernel with 16 outputs.
    assert table.loc["convolution 5 x 5", "ConvNet + mask"] - table.loc["convolution 5 x 5", "ConvNet"] == 400


def test_masks_are_traced_at_every_level_and_at_the_one_asked_for(generator):
    shares, masks = layer_checks.masks_by_layer(0.77, generator, count=10)
    assert list(shares.index) == list(masks) == sorted({*SPARSITIES, 0.77})
    assert shares.loc[0.77, "image"] == pytest.approx(100 * (1 - int(784 * 0.77) / 784))
    assert (shares["after 5 × 5"] >= shares["image"]).all()
    grown = torch.nn.functional.max_pool2d(masks[0.95]["image"].float(), 5, stride=1, padding=2) > 0
    assert torch.equal(masks[0.95]["after 5 × 5"], grown)
    figure = layer_checks.masks_figure({0.95: masks[0.95]})
    assert figure.axes[0].get_xlabel() == "5.1% observed"
    plt.close(figure)


def test_zeros_and_nans_differ_at_missing_pixels_alone(generator):
    zeroed, spoilt, mask = layer_checks.zeros_and_nans(0.5, generator, count=3)
    assert torch.equal(spoilt.isnan(), ~mask) and (zeroed[~mask] == 0).all()
    assert torch.equal(zeroed[mask], spoilt[mask])


def test_a_hole_has_edges_for_the_sparse_convolution_and_random_masks_have_not():
    figure, table = layer_checks.edge_of_a_hole(seed=0)
    plt.close(figure)
    whole = table.loc["the disc's edge, whole: mean"]
    assert whole["sparse convolution"] == pytest.approx(whole["convolution"])
    random = table.loc["the disc's edge, 30% at random: mean"] / whole
    assert random["sparse convolution"] == pytest.approx(1, abs=0.05)
    assert random["convolution"] == pytest.approx(0.7, abs=0.05)
    assert table.loc["no edge, 30% in one piece: most", "sparse convolution"] == pytest.approx(1)


def test_the_ratio_of_scales_is_the_number_of_pixels_in_the_window(generator):
    noise = torch.randn(20, 1, 28, 28, generator=generator)
    table, bias = layer_checks.scale_by_place(noise, seed=0)
    assert table["ratio"].tolist() == pytest.approx([25, 15, 9], rel=1e-4)
    assert 0 < bias < 1 / 5  # uniform up to 1 / sqrt(25)


def test_the_spread_after_the_first_layer_is_25_times_smaller_and_drawn(generator):
    noise = torch.randn(200, 1, 28, 28, generator=generator)
    spread = layer_checks.spread_by_layer(noise, 0, generator)
    first = spread["conv 5 x 5"].unstack("model")
    assert first.loc[0, "ConvNet"] / first.loc[0, "SparseConvNet"] == pytest.approx(22.5, abs=2)  # less at the border
    assert first["SparseConvNet"].is_monotonic_increasing and first["ConvNet"].is_monotonic_decreasing
    figure = layer_checks.scale_figure(spread)
    line = figure.axes[0].lines[0]
    assert line.get_label() == "SparseConvNet" and line.get_ydata().tolist() == first["SparseConvNet"].tolist()
    plt.close(figure)
