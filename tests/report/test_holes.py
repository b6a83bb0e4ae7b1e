import matplotlib.pyplot as plt
import pytest
import torch

from sparsecnn.report import holes


def test_a_mask_fills_by_a_window_a_layer():
    table = holes.filling("mnist", (0.5,), (0.25,), images=2)
    assert table.index.tolist() == ["random 50%", "square 25%"]
    assert table.loc["random 50%", "input"] == pytest.approx(50, abs=5)
    # A 5 x 5 window takes two pixels off each side of a hole of 14 x 14; 1 x 1 none.
    inside = table.loc["square 25%"]
    assert inside["input"] == pytest.approx(100 - 100 * 14**2 / 28**2)
    assert inside["layer 1"] <= 100 - 100 * 10**2 / 28**2 + 3 and inside["layer 2"] == inside["layer 1"]


@pytest.fixture(scope="module")
def hole():
    return holes.Hole(images=2)


def test_scattered_gaps_have_size_1_and_only_what_divides_grows_in_a_hole(hole):
    sizes = hole.magnitudes()
    assert sizes.index.tolist() == list(holes.NETWORKS) and len(sizes.columns) == 4
    last = sizes["layer 4"]
    assert last[["SparseConvNet", "partial convolution"]].min() > 5
    assert last.drop(["SparseConvNet", "partial convolution"]).max() < 2
    assert (sizes.loc["SparseConvNet"].diff().dropna() > 0).all()


def test_features_are_those_behind_each_batch_norm(hole):
    for features in hole.behind.values():
        assert [part.shape[1:] for part in features] == [(16, size, size) for size in (224, 112, 56, 28)]
        assert all(torch.isfinite(part).all() for part in features)
    figure = hole.figure()
    assert len(figure.axes) == 3 * 5 + 1
    plt.close(figure)


def test_features_do_not_depend_on_the_number_of_threads():
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(holes.Hole(images=1).behind["SparseConvNet"])
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
