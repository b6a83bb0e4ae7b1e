"""How notebooks start: unknown parameters are refused, recorded runs are read, and what is shown is named."""

import papermill
import pytest

from sparsecnn.checks import SettingError
from sparsecnn.experiment import grid
from sparsecnn.files import REPOSITORY, ResultsError
from sparsecnn.report import notebook

KNOWN = "sparsity = None  # a fraction\nseeds = None  # a number"


@pytest.fixture
def cells(monkeypatch) -> list[str]:
    """The cells that have run, as IPython keeps them."""
    ran = ["", "import torch", KNOWN]

    class Shell:
        user_ns = {"In": ran}

    monkeypatch.setattr(notebook, "get_ipython", Shell)
    return ran


def fair(dataset: str) -> dict:
    return {"table": grid(dataset, "controlled", 0.5)}


def test_a_parameter_that_the_notebook_does_not_know_is_refused_with_the_nearest_that_it_does(cells):
    cells.append("# Parameters\nsparsty = 0.3\n")
    with pytest.raises(SettingError) as error:
        notebook.start()
    assert str(error.value) == (
        "sparsty=0.3 is not allowed (did you mean sparsity?): this notebook's parameters are sparsity, seeds"
    )


@pytest.mark.parametrize("cell", ["# Parameters\nsparsity = 0.3\nseeds = 2\n", "anything = 1", ""])
def test_others_are_not(cells, cell):
    cells.append(cell)
    notebook.start()


def test_papermill_stops_at_an_unknown_parameter(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="sparsty=0.3 is not allowed"):
        papermill.execute_notebook(
            REPOSITORY / "notebooks/02_mnist.ipynb",
            tmp_path / "out.ipynb",
            {"sparsty": 0.3},
            cwd=REPOSITORY / "notebooks",
            progress_bar=False,
        )


def test_at_its_defaults_a_notebook_reads_what_is_recorded(cells, capsys):
    asked = {"sparsity": None, "seeds": None}
    runs = notebook.start_with_runs(fair, ["mnist"], None, asked)
    assert runs.datasets == ("mnist",) and not runs.training and runs.name("figure") == "figure"
    assert runs["mnist", "table"]["run"].nunique() >= 9
    capsys.readouterr()
    runs.scope()
    assert (
        f"{runs['mnist', 'table']['run'].nunique()} of {len(runs.experiments['mnist', 'table'])}"
        in capsys.readouterr().out
    )


def test_a_part_of_it_replaces_no_figure(cells):
    runs = notebook.start_with_runs(fair, ["mnist"], None, {"sparsity": 0.5, "seeds": None})
    assert runs.training and runs.name("figure") is None and len(runs.recorded)


@pytest.mark.parametrize("dataset", ["shapes", "cifar10"])
def test_a_data_set_of_another_notebook_is_refused(cells, dataset):
    with pytest.raises(SettingError, match=f"dataset='{dataset}' is not allowed: one of 'mnist', 'digits'"):
        notebook.start_with_runs(fair, ["mnist"], dataset, {})


def test_without_recorded_runs_it_says_what_to_do(cells, monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(tmp_path))
    with pytest.raises(ResultsError, match="holds no recorded runs: set a parameter"):
        notebook.start_with_runs(fair, ["mnist"], None, {})


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
    shown = notebook.start_with_masks(*asked, (None, 0), datasets)
    assert shown.name("figure") == name
    assert shown.datasets == (("digits",) if datasets == ["mnist"] else ("shapes",))
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(tmp_path))
    assert notebook.start_with_masks(*asked, (None, 0), datasets).name("figure") == "figure"


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
        notebook.start_with_masks(sparsity, seed, reported, ["mnist"])
