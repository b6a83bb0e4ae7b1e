"""What of a notebook's question is recorded, and what is to be trained for it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from ..experiment import Experiment
from . import store
from .sweep import missing, sweep

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["rows_of", "to_train"]


def to_train(experiments: list[Experiment], seeds: int | None = None, rerun: bool = False) -> list[Experiment]:
    """Those that are trained where ``experiments`` are asked for.

    Without ``seeds`` that is the first seed of each network (an Experiment but for its seed) that has none recorded;
    with ``seeds`` all that are missing. With ``rerun`` recorded runs are as good as none.
    """
    if seeds is not None:
        return list(experiments) if rerun else missing(experiments)
    recorded = set() if rerun else set(store.of_experiments(experiments)["run"])
    known = {replace(experiments[number], seed=0) for number in recorded}
    first: dict[Experiment, Experiment] = {}
    for run in experiments:
        network = replace(run, seed=0)
        if network not in known and run.seed <= first.get(network, run).seed:
            first[network] = run
    return list(first.values()) if rerun else missing(list(first.values()))


def rows_of(
    experiments: list[Experiment],
    train: bool,
    seeds: int | None = None,
    rerun: bool = False,
    device: str = "auto",
    workers: int | None = None,
    client: "Client | None" = None,
    parameters: Iterable[str] = (),
) -> pd.DataFrame:
    """The rows of those experiments that are recorded or, as :func:`to_train` says, trained now; with ``run``, the
    index in the list. With ``rerun`` only what is trained now.

    Args:
        experiments: the whole list of a study, each once.
        train: False only reads the store.
        seeds: how many were asked for, None = as many as are recorded, or one.
        device, workers, client, parameters: as :func:`sparsecnn.sweeps.sweep.sweep` has them.

    Raises:
        Those of sweep.
    """
    todo = to_train(experiments, seeds, rerun) if train else []
    fresh = sweep(todo, device, rerun, workers, client, parameters=parameters) if todo else None
    return store.of_experiments(experiments, fresh if rerun and train else None)
