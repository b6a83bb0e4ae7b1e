"""How a notebook starts: one call that checks its parameters, reads or trains its runs, and says which."""

import ast
import difflib
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import matplotlib.pyplot as plt
import pandas as pd
from IPython import get_ipython

from ..checks import SettingError, check_choice, check_fraction, check_range, check_type
from ..data.datasets import available
from ..data.downloads import places
from ..data.images import TITLES
from ..experiment import FAMILIES, Experiment
from ..files import ResultsError, output_root
from ..sweeps import store
from ..sweeps.executors import connect
from ..sweeps.plan import rows_of
from ..sweeps.sweep import sweep
from ..training.devices import choose_device

__all__ = ["Runs", "Shown", "given", "start", "start_with_masks", "start_with_runs"]

Studies = Callable[[str], dict[str, list[Experiment]]]
STAND_INS = tuple(stand_in for _, stand_in in FAMILIES)
# Parameters that leave out a part of a study's runs, so that what is shown may not replace tables and figures.
PARTS = ("sparsity", "protocol", "learning_rates", "batch_sizes")


def given(**parameters) -> dict:
    """Those that are not None."""
    return {name: value for name, value in parameters.items() if value is not None}


def start() -> None:
    """Refuses parameters that the notebook does not know, sets the style of figures and tables, prints versions.

    Raises:
        SettingError: for a parameter of papermill's that the notebook's cell of parameters does not have.
    """
    refuse_unknown_parameters(_cells())
    plt.style.use("sparsecnn.report.report")
    pd.options.display.width, pd.options.display.max_columns = 160, None
    versions = {name: version(name) for name in ("torch", "torchvision", "numpy", "pandas", "matplotlib")}
    print(", ".join(f"{name} {number}" for name, number in {"Python": platform.python_version(), **versions}.items()))


def _cells() -> list[str]:
    """The sources of the cells that have run."""
    shell = get_ipython()
    return shell.user_ns["In"] if shell else []


def refuse_unknown_parameters(cells: Sequence[str]) -> None:
    """Where papermill has put a cell of parameters, each must be one of the cell before it; papermill only warns.

    Args:
        cells: the sources of the cells that have run.

    Raises:
        SettingError: for another.
    """
    for known, injected in zip(cells, cells[1:], strict=False):
        if injected.startswith("# Parameters\n"):
            allowed, asked = _assigned(known), _assigned(injected)
            if unknown := [name for name in asked if name not in allowed]:
                near = difflib.get_close_matches(unknown[0], allowed, 1)
                meant = f" (did you mean {near[0]}?)" if near else ""
                raise SettingError(
                    f"{unknown[0]}={asked[unknown[0]]} is not allowed{meant}: "
                    f"this notebook's parameters are {', '.join(allowed)}"
                )


def _assigned(cell: str) -> dict[str, str]:
    """The names that a cell assigns to, and what."""
    return {
        target.id: ast.unparse(statement.value)
        for statement in ast.parse(cell).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }


@dataclass(frozen=True)
class Shown:
    """What a notebook shows.

    datasets  a stand-in where the real one can't be had
    whole     whether figures and tables may be written: it is the report's own, or a folder was named
    """

    datasets: tuple[str, ...]
    whole: bool

    def name(self, figure: str) -> str | None:
        """The name to write a figure or table by; None where it must not replace the report's."""
        return figure if self.whole else None


def start_with_masks(
    sparsity: float | None, seed: int, reported: tuple[float | None, int], datasets: Sequence[str] = ()
) -> Shown:
    """As :func:`start`, for a notebook that draws masks and trains nothing.

    Args:
        sparsity: a fraction in [0, 1); None only where the report's is None.
        seed: a whole number of at least 0.
        reported: the sparsity and seed of the report's figures; with others, or with a stand-in, none is written.
        datasets: what it shows, downloaded where missing.

    Raises:
        SettingError, DataError: in one line, before any work starts.
    """
    refuse_unknown_parameters(_cells())
    if sparsity is not None or reported[0] is not None:
        check_fraction("sparsity", sparsity)
    check_type("seed", seed, int)
    check_range("seed", seed, least=0)
    start()
    names = tuple(available(name) for name in datasets)
    whole = (names, (sparsity, seed)) == (tuple(datasets), reported) or "SPARSECNN_OUTPUT" in os.environ
    return Shown(names, whole)


@dataclass(frozen=True)
class Runs(Shown):
    """The runs of a notebook's studies. ``runs[dataset, study]`` are the rows of the store, with the column ``run``.

    experiments  by data set and study
    recorded     the rows of all of them
    device       where more are trained
    training     whether more was asked for than what is recorded
    """

    experiments: dict[tuple[str, str], list[Experiment]]
    recorded: pd.DataFrame
    device: str
    training: bool

    def __getitem__(self, study: tuple[str, str]) -> pd.DataFrame:
        return store.of_experiments(self.experiments[study], self.recorded)

    def by_way(self, ways: dict[str, list[Experiment]]) -> dict[str, pd.DataFrame]:
        """The rows of runs that a study names, by the name."""
        return {way: store.of_experiments(experiments, self.recorded) for way, experiments in ways.items()}

    def title(self, dataset: str) -> str:
        """For captions; a stand-in's says so."""
        return TITLES[dataset]

    def train(self, experiments: list[Experiment]) -> pd.DataFrame:
        """The rows of further runs, trained now on the same device and not stored."""
        return sweep(experiments, device=self.device, rerun=True)

    def scope(self) -> None:
        """Prints how many of each study's runs are shown."""
        for (dataset, study), experiments in self.experiments.items():
            if experiments:
                print(f"{TITLES[dataset]}, {study}: {self[dataset, study]['run'].nunique()} of {len(experiments)} runs")


def start_with_runs(
    studies: Studies,
    datasets: Sequence[str],
    dataset: str | None,
    asked: dict,
    rerun: bool = False,
    device: str = "auto",
    scheduler: str | None = None,
    **switches: bool,
) -> Runs:
    """As :func:`start`, and reads the runs of a notebook's studies, or trains what is asked for and not recorded.

    Args:
        studies: gives the Experiments of each study on a data set; called before any work starts.
        datasets: the data sets of the notebook, those of the report.
        dataset: one of them, or a stand-in for one; None = all of them.
        asked: the parameters that ask for other runs than the recorded ones where they are not None, ``seeds`` among
            them; see sweeps.plan.rows_of.
        rerun: train everything anew.
        device, scheduler: as in sweeps.sweep.sweep and sweeps.executors.connect.
        switches: the notebook's other parameters that are True or False.

    Raises:
        SettingError, DataError, ResultsError: in one line, before any work starts; ResultsError also where nothing is
            recorded.
    """
    refuse_unknown_parameters(_cells())
    for name, value in {"rerun": rerun, **switches}.items():
        check_type(name, value, bool)
    if dataset is not None:
        check_choice("dataset", dataset, [name for pair in FAMILIES if pair[0] in datasets for name in pair])
        datasets = (dataset,)
    for name in datasets:
        studies(name)  # refuses what is not allowed
    client = connect(scheduler)
    if client is None:  # else the device is the workers' to have
        choose_device(device)
    start()
    training = rerun or dataset in STAND_INS or bool(given(**asked))
    if training:
        print(places())
    names = tuple(available(name) if training else name for name in datasets)
    experiments = {(name, study): runs for name in names for study, runs in studies(name).items()}
    # A run may serve several studies.
    every = list(dict.fromkeys(run for runs in experiments.values() for run in runs))
    seeds = asked.get("seeds")
    recorded = rows_of(every, training, seeds, rerun, device, client=client, parameters=(*asked, "dataset"))
    if recorded.empty:
        raise ResultsError(f"{output_root()} holds no recorded runs: set a parameter, say seeds, to train some")
    part = any(asked.get(name) is not None for name in PARTS)
    whole = not part and not rerun and (not training or "SPARSECNN_OUTPUT" in os.environ)
    provenance = recorded.drop_duplicates("run").groupby(["dataset", "protocol", "device", "torch", "precision"])
    print(provenance["seconds"].agg(runs="count", seconds_a_run="median").round(1).reset_index().to_string(index=False))
    return Runs(names, whole, experiments, recorded, device, training)
