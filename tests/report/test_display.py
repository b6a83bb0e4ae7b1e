"""Figures and tables as notebooks show them."""

import json
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from sparsecnn.files import REPOSITORY
from sparsecnn.report import display
from sparsecnn.report.display import Table, show_figure, show_slider, show_table
from sparsecnn.report.figures import learning_curves, spread_of_runs


def drawn(*_) -> plt.Figure:
    figure, panel = plt.subplots(figsize=(2, 1))
    panel.plot([1, 2, 3])
    return figure


@pytest.fixture
def shown(monkeypatch) -> list:
    """What is displayed, each with its metadata."""
    shown = []
    monkeypatch.setattr(display, "display", lambda what, metadata=None: shown.append((what, metadata)))
    return shown


@pytest.fixture
def output(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(tmp_path))
    return tmp_path


def test_figure_has_its_alternative_text_and_is_closed(shown):
    show_figure(figure := drawn(), "a rising line")
    assert shown == [(figure, {"image/png": {"alt": "a rising line"}})]
    assert plt.get_fignums() == []


def test_figure_is_the_same_files_each_time(shown, output):
    with plt.style.context("sparsecnn.report.report"):
        show_figure(drawn(), "a rising line", "line")
        first = {path.name: path.read_bytes() for path in (output / "figures").iterdir()}
        show_figure(drawn(), "a rising line", "line")
    assert first.keys() == {"line.png", "line.svg"}
    assert first == {path.name: path.read_bytes() for path in (output / "figures").iterdir()}
    assert plt.imread(output / "figures/line.png").shape[:2] == (200, 400)  # 200 dpi


def test_figure_without_a_name_writes_nothing(shown, output):
    show_figure(drawn(), "a rising line")
    assert list(output.iterdir()) == []


def test_table_reads_as_plain_text():
    frame = pd.DataFrame(
        {
            "sparsity": [0.05, 0.3],
            "accuracy_mean": [97.456, math.nan],
            "learning_rate": [1e-3, 5e-3],
            "n_seeds": [3, 12000],
        }
    )
    assert str(Table(frame, "a", "Accuracies", digits=1)).split("\n") == [
        "Accuracies",
        "sparsity accuracy mean learning rate n seeds",
        "      5%          97.5         0.001       3",
        "     30%                       0.005  12,000",
    ]


def test_table_keeps_its_index_and_the_protocols_names():
    frame = pd.DataFrame({("difference", "as_run"): [1.0]}, index=pd.Index([0.1], name="sparsity"))
    assert str(Table(frame, "a")).split() == ["difference", "as_run", "sparsity", "10%", "1.00"]


def test_only_sparsities_are_percentages():
    frame = pd.DataFrame(
        {("ConvNet", "trained on every sparsity"): [96.5]}, index=pd.Index([0.1], name="test_sparsity")
    )
    assert str(Table(frame, "a", digits=1)).split()[-2:] == ["10%", "96.5"]


def test_table_without_rows_says_so():
    nothing = Table(pd.DataFrame({"seed": []}), "a", "Runs that collapsed")
    assert str(nothing) == "Runs that collapsed\n(none)"
    assert nothing._repr_html_() == "<p><b>Runs that collapsed</b> (none)</p>"


def test_table_is_the_same_html_each_time_and_marks_published_numbers():
    frame = pd.DataFrame({"10%": ["1", "2"]}, index=["ConvNet", "ConvNet, published"])
    page = Table(frame, "table3")._repr_html_()
    assert page == Table(frame.copy(), "table3")._repr_html_()
    assert 'id="T_table3"' in page
    assert "#T_table3 .row1 {" in page and "#T_table3 .row0 {" not in page


def test_table_of_labels_that_come_twice():
    frame = pd.DataFrame([[1, 2.5]], columns=["seed", "seed"], index=pd.Index(["x"], name="way"))
    assert str(Table(frame, "a")).split() == ["seed", "seed", "way", "x", "1", "2.50"]
    assert "2.50" in Table(frame, "a")._repr_html_()


def test_numbers_of_numpy_are_shown_as_python_shows_its_own(shown):
    frame = pd.DataFrame({"a": [np.int64(3), "x"], "b": [np.float64(0.5), True]})
    show_table(frame, "a")
    assert str(shown[0][0]).split() == ["a", "b", "3", "0.50", "x", "yes"]


def test_slider_is_a_still_where_no_page_is_open(monkeypatch, shown):
    monkeypatch.setenv("JPY_SESSION_NAME", "of_the_page_that_papermill_was_started_from.ipynb")
    show_slider(drawn, 0.3, ("exact", "bernoulli"), "a rising line")
    assert [metadata for _, metadata in shown] == [{"image/png": {"alt": "a rising line"}}]


def test_slider_redraws_where_a_page_is_open(monkeypatch, shown):
    monkeypatch.setattr("sparsecnn.report.display.has_page", lambda: True)
    asked = []

    def draw(sparsity, scheme):
        asked.append((sparsity, scheme))
        return drawn()

    show_slider(draw, 0.3, ("exact", "bernoulli"), "a rising line")
    slider, buttons, picture = shown[0][0].children
    assert bytes(picture.value).startswith(b"\x89PNG")
    slider.value = 0.5
    buttons.value = "bernoulli"
    assert asked == [(0.3, "exact"), (0.5, "exact"), (0.5, "bernoulli")]
    assert plt.get_fignums() == []


def test_spread_of_runs_has_a_marker_a_run_and_a_star_a_new_one():
    runs = pd.DataFrame({"model": ["ConvNet"] * 3 + ["SparseConvNet"] * 2, "test_accuracy": [1.0, 2, 3, 4, 5]})
    figure = spread_of_runs(runs, runs[-1:], "spread")
    lines = {line.get_marker(): list(line.get_xdata()) for line in figure.axes[0].lines if len(line.get_xdata())}
    assert lines == {"s": [1, 2, 3], "o": [4, 5], "*": [5]}
    plt.close(figure)


def test_learning_curves_say_where_a_protocol_has_no_run():
    runs = pd.DataFrame({
        "protocol": ["as_run", "controlled"], "sparsity": [0.3, 0.0], "model": "ConvNet", "seed": 0,
        "epoch": 1, "train_accuracy": 40.0, "test_accuracy": 50.0,
    })  # fmt: skip
    figure = learning_curves(runs, "curves", (0.0, 0.3))
    assert [[text.get_text() for text in panel.texts] for panel in figure.axes] == [["no runs"], [], [], ["no runs"]]
    plt.close(figure)


def test_every_figure_of_the_notebooks_has_alternative_text():
    for path in sorted((REPOSITORY / "notebooks").glob("[0-9]*.ipynb")):
        for cell in json.loads(path.read_text())["cells"]:
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    alt = output["metadata"].get("image/png", {}).get("alt", "")
                    assert len(alt) > 40, f"{path.name}, {cell['id']}: a figure without alternative text"
