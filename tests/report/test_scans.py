"""The pictures and the table of what comes of scans, on the drawn street."""

import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F

from sparsecnn.experiment import MODELS
from sparsecnn.report.scans import Completions, _smooth


@pytest.fixture(scope="module")
def street() -> Completions:
    return Completions("street")


def test_every_way_fills_each_scan_within_what_a_scanner_measures(street):
    assert list(street.filled) == ["nearest neighbour", *MODELS]
    for filled in street.filled.values():
        assert filled.shape == street.scans.shape and filled.min() >= 1 and filled.max() <= 120
    assert (street.given <= (street.scans > 0)).all()
    assert street.given.sum() / (street.scans > 0).sum() == pytest.approx(0.2, abs=0.01)


def test_errors_are_told_by_kind_of_cells(street):
    table = street.errors()
    shares = table.loc["share of cells (%)"]
    assert shares["not given"] == pytest.approx(80, abs=1) and shares["given"] == pytest.approx(20, abs=1)
    assert shares["smooth surfaces"] + shares["edges"] == pytest.approx(shares["not given"])
    near = table.loc["nearest neighbour"]
    assert (
        near["given"] == 0
        and near["a metre passed on"] == pytest.approx(1)
        and 0 < near["smooth surfaces"] < near["not given"] < near["edges"]
    )
    networks = table.loc[list(MODELS)]
    assert (networks > 0).all(axis=None) and networks["a metre passed on"].lt(1).all()
    off = (street.filled["ConvNet"] - street.scans).abs()
    asked = (street.scans > 0) & ~street.given
    by_hand = torch.stack([error[where].mean() for error, where in zip(off, asked, strict=True)]).mean()
    assert networks.loc["ConvNet", "not given"] == pytest.approx(by_hand.item(), rel=1e-5)


def test_a_mean_over_a_window_passes_on_one_part_in_as_many(street, monkeypatch):
    def mean(scans, given):
        count = F.avg_pool2d(given.double(), 11, stride=1, padding=5, divisor_override=1)
        return F.avg_pool2d(scans.double() * given, 11, stride=1, padding=5, divisor_override=1) / count

    monkeypatch.setattr(street, "_filled", lambda scans, given: {"mean": mean(scans, given)})
    monkeypatch.setattr(street, "filled", {"mean": mean(street.scans, street.given)})
    counts = F.avg_pool2d(street.given.double(), 11, stride=1, padding=5, divisor_override=1)[street.given]
    assert street.passed_on()["mean"] == pytest.approx((1 / counts).mean().item(), rel=0.3)


def test_a_cell_is_smooth_where_no_measured_neighbour_is_far_off():
    scan = torch.full((1, 1, 5, 7), 10.0)
    scan[0, 0, 2, 2] = 11.5
    scan[0, 0, 2, 5] = 0  # no return
    smooth = _smooth(scan)[0, 0]
    assert not smooth[1:4, 1:4].any() and not smooth[2, 5]
    smooth[1:4, 1:4] = smooth[2, 5] = True
    assert smooth.all()


def test_a_picture_names_its_source_and_every_panel(street):
    figure = street.figure(0)
    titles = [panel.get_title() for panel in figure.axes if panel.images]
    assert titles[:2] == ["measured", "given (20%)"]
    assert titles[2:] == [f"{name}{what}" for name in street.filled for what in ("", ": error")]
    assert "drawn street" in figure.get_suptitle()
    assert {axis.get_xlabel() for axis in figure.axes if not axis.images} == {"depth (m)", "absolute error (m)"}
    plt.close(figure)
