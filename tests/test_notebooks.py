"""A notebook that trains, as papermill runs it; nbval runs them all as they stand."""

import papermill

from sparsecnn import results
from sparsecnn.datasets import REPOSITORY


def test_the_caltech_notebook_trains_and_shows_what_it_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(tmp_path))
    asked = {"dataset": "shapes", "protocol": "as_reported", "sparsity": 0.3, "seeds": 1}
    quick = {"epochs": 1, "batch_size": 16, "train_images": 32, "device": "cpu"}
    executed = papermill.execute_notebook(
        REPOSITORY / "notebooks/03_caltech.ipynb",
        tmp_path / "out.ipynb",
        asked | quick,
        cwd=REPOSITORY / "notebooks",
        progress_bar=False,
    )
    outputs = {cell.id: cell.get("outputs", []) for cell in executed.cells}
    assert "shapes (drawn, standing in for Caltech-101): 2 of 2 runs" in outputs["scope"][0]["text"]
    for figure in ("accuracy-figure", "curves", "classes", "pictures"):
        assert any("image/png" in output.get("data", {}) for output in outputs[figure]), figure
    assert set(results.read("shapes", "as_reported")["model"]) == {"SparseConvNet", "ConvNet"}
    # A part of a sweep replaces no table.
    assert not list((tmp_path / "results").glob("*.csv"))
