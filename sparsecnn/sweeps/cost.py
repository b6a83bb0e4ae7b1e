"""What a sweep is going to cost, said before it starts."""

from collections.abc import Iterable, Sequence

import pandas as pd

from ..experiment import PROTOCOLS, Experiment
from ..training.devices import choose_device, name_of
from ..training.train import precision_of
from . import store

__all__ = ["after_first_epoch", "announcement", "expected_seconds", "number_of"]

# Runs that are equal in these do the same work in an epoch.
WORK = ["dataset", "model", "architecture", "batch_size", "train_images", "tested_at", "fill", "precision"]


def expected_seconds(runs: Sequence[Experiment], device: str, at_once: int) -> float | None:
    """How long these runs take on a device of this machine, so many at once, by recorded runs that did the same work
    on such a device; None where one of them has no such run.

    Args:
        device: "cpu" or "cuda".
    """
    where = choose_device(device)
    tables = [store.read(*group) for group in sorted({(run.dataset, name) for run in runs for name in PROTOCOLS})]
    rows = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    devices = rows["device"].str.split(", an ensemble|, compiled", regex=True).str[0]
    rows = rows[(rows["epoch"] == rows["epochs"]) & (devices == name_of(where))]
    an_epoch = (rows["seconds"] / rows["epochs"]).groupby([rows[name] for name in WORK]).median().to_dict()
    kinds = [(*(getattr(run, name) for name in WORK[:-1]), precision_of(run, where)) for run in runs]
    if not an_epoch.keys() >= set(kinds):
        return None
    seconds = [run.epochs * an_epoch[kind] for run, kind in zip(runs, kinds, strict=True)]
    return max(max(seconds), sum(seconds) / at_once)


def announcement(runs: Sequence[Experiment], at_once: int, seconds: float | None, parameters: Iterable[str]) -> str:
    """One line: how many runs, how long they take, and which of the caller's ``parameters`` make it shorter."""
    count = number_of(runs) + (f", {at_once} at once" if at_once > 1 else "")
    time = "how long it takes is said after the first epoch"
    if seconds is not None:
        time = f"about {_words(seconds)} on this machine, going by recorded runs"
    shorter = [f"{name}={value!r}" for name, value in _shorter(runs) if name in parameters]
    return f"To train: {count}, {time}" + (f"; shorter with {' or '.join(shorter)}" if shorter else "")


def after_first_epoch(seconds: float, epochs: int, at_once: int) -> str:
    """The line that the announcement promised: ``epochs`` of ``seconds``, so many at once."""
    return f"The first epoch took {_words(seconds)}, so all {epochs} take about {_words(seconds * epochs / at_once)}"


def number_of(runs: Sequence[Experiment]) -> str:
    return f"{len(runs)} run" + "s" * (len(runs) != 1)


def _shorter(runs: Sequence[Experiment]) -> Iterable[tuple[str, object]]:
    """Parameters of notebooks and of the command, with values that leave fewer of these runs, or less of each."""
    several = {name: sorted({getattr(run, name) for run in runs}) for name in ("seed", "sparsity", "protocol")}
    if len(several["seed"]) > 1:
        yield "seeds", 1
    if len(several["protocol"]) > 1:
        yield "protocol", several["protocol"][-1]
    if len(several["sparsity"]) > 1:
        yield "sparsity", several["sparsity"][0]
    if max(run.epochs for run in runs) > 1:
        yield "epochs", 1
    yield "minutes", 30


def _words(seconds: float) -> str:
    for unit, size, up_to in (("second", 1, 90), ("minute", 60, 90), ("hour", 3600, 48), ("day", 86400, float("inf"))):
        if (count := max(1, round(seconds / size))) < up_to:
            return f"{count} {unit}" + "s" * (count != 1)
