import pytest

from sparsecnn.checks import SettingError
from sparsecnn.report import notebook
from sparsecnn.report.notebook import start_with_masks


@pytest.fixture
def outside_a_notebook(monkeypatch):
    monkeypatch.setattr(notebook, "start", lambda: None)
    monkeypatch.setattr(notebook, "available", lambda name: "digits" if name == "mnist" else name)
    monkeypatch.delenv("SPARSECNN_OUTPUT", raising=False)


@pytest.mark.usefixtures("outside_a_notebook")
@pytest.mark.parametrize(
    ("asked", "datasets", "name"),
    [
        ((None, 0), ["shapes"], "figure"),
        ((0.5, 0), ["shapes"], None),
        ((None, 1), ["shapes"], None),
        ((None, 0), ["mnist"], None),  # a stand-in serves
    ],
)
def test_only_the_reports_own_figures_are_written(asked, datasets, name, monkeypatch, tmp_path):
    shown = start_with_masks(*asked, (None, 0), datasets)
    assert shown.name("figure") == name
    assert shown.datasets == (("digits",) if datasets == ["mnist"] else ("shapes",))
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(tmp_path))
    assert start_with_masks(*asked, (None, 0), datasets).name("figure") == "figure"


@pytest.mark.usefixtures("outside_a_notebook")
@pytest.mark.parametrize(
    ("sparsity", "seed", "reported", "message"),
    [
        (1.0, 0, (None, 0), "sparsity=1.0"),
        ("0.5", 0, (None, 0), "sparsity='0.5'"),
        (None, 0, (0.5, 0), "sparsity=None"),
        (0.5, -1, (0.5, 0), "seed=-1"),
        (0.5, 1.5, (0.5, 0), "seed=1.5"),
    ],
)
def test_what_masks_cannot_be_drawn_with_is_refused_before_data_is_looked_for(
    sparsity, seed, reported, message, monkeypatch
):
    monkeypatch.setattr(notebook, "available", lambda _: pytest.fail("looked for data"))
    with pytest.raises(SettingError, match=f"^{message} is not allowed"):
        start_with_masks(sparsity, seed, reported, ["mnist"])
