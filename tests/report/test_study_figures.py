import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from sparsecnn.report.claims import CLAIMS, EFFECTS
from sparsecnn.report.study_figures import forest, matrices


@pytest.fixture
def claims() -> pd.DataFrame:
    effect = pd.Series([1.0, -1, 0, 2, np.nan, 1, 5, 30, 53, 7])
    half = pd.Series([1.0] * 8 + [np.nan] + [1.0])
    return pd.DataFrame(
        {
            "claim": CLAIMS.values(), "numbers_come_back": "undecided", "conclusion_stands": "no", "effect": effect,
            "low": effect - half, "high": effect + half, "unit": [unit for unit, _ in EFFECTS.values()], "evidence": "",
        }
    )  # fmt: skip


def test_a_forest_has_every_claim_once_and_units_apart(claims):
    figure = forest(claims, "The ten claims")
    points, share = figure.axes
    names = [[label.get_text() for label in panel.get_yticklabels()] for panel in (points, share)]
    assert [int(name.split(".")[0]) for name in names[0]] == [1, 2, 3, 4, 5, 6, 7, 9, 10] and len(names[1]) == 1
    assert points.get_xlabel().startswith("points") and share.get_xlabel() == "% of runs"
    ends = [tuple(line.get_xdata()) for line in points.lines if len(line.get_xdata()) == 2]
    assert {(0.0, 2.0), (-2.0, 0.0), (6.0, 8.0)} <= set(ends)
    marked = [line.get_xdata()[0] for line in points.lines if len(line.get_xdata()) == 1]
    assert marked == [1, -1, 0, 2, 1, 5, 7]  # none of claim 5, claim 9's is out of sight
    words = [text.get_text() for text in figure.findobj(plt.Text)]
    assert "53 →" in words and words.count("undecided | no") == 10
    plt.close(figure)


@pytest.mark.parametrize(("metric", "label"), [("accuracy", "test accuracy (%)"), ("mae", "mean absolute error (m)")])
def test_matrices_name_what_their_colours_are_and_are_bright_for_the_better(metric, label):
    cells = [(0.1, 0.1, 1.0), (0.1, 0.5, 9.0), (0.5, 0.1, 4.0), (0.5, 0.5, 2.0)]
    table = pd.DataFrame(cells, columns=["train_sparsity", "test_sparsity", f"{metric}_mean"]).assign(model="ConvNet")
    beyond = pd.DataFrame({
        "model": ["ConvNet"], "trained_at": ["own sparsity"], "train_sparsity": [0.1], "test_mask": ["rings"],
        "test_sparsity": [0.5], f"{metric}_mean": [3.0],
    })  # fmt: skip
    figure = matrices(table, beyond, "title")
    panel, bar = figure.axes
    assert bar.get_ylabel() == label
    (drawn,) = panel.images
    brightness = drawn.cmap(drawn.norm(np.array([1.0, 9.0])))[:, :3].sum(axis=1)
    assert (brightness[0] > brightness[1]) == (metric == "mae")
    assert [text.get_text() for text in panel.get_xticklabels()] == ["10", "50", "rings 50"]
    plt.close(figure)
