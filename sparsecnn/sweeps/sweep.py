"""Many Experiments: what is stored is read, the rest is trained, and each finished run is stored at once.

Sweeps on one store share the work, on one machine or on several: a run is claimed before it is trained.
"""

import itertools
import math
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from typing import TYPE_CHECKING

import pandas as pd
from tqdm import tqdm

from ..checks import SettingError, check_choice, check_range, check_type
from ..data.datasets import load, split
from ..data.downloads import places
from ..data.inpainting import check_installed
from ..experiment import Experiment, check_experiment, task_of, with_more_tests
from ..files import check_writable
from ..models import LAYERS
from ..progress import bar as progress_bar
from ..progress import say
from ..records import no_rows
from ..training import resuming
from ..training.compiling import network_of, worth_compiling
from ..training.devices import DEVICES, choose_device
from ..training.ensembles import ensembles_of
from . import store
from .cost import after_first_epoch, announcement, expected_seconds, number_of
from .executors import Cluster, Here, Processes, TimeIsUp, refuse_in_a_starting_process, visible_gpus

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Interrupted", "missing", "sweep"]

TURN = 0.2  # seconds between two looks at what has finished


class Interrupted(KeyboardInterrupt):
    """A sweep that was interrupted. Notebooks show its one line, not a traceback."""

    _render_traceback_ = SettingError._render_traceback_


def missing(experiments: list[Experiment]) -> list[Experiment]:
    """Those that the store does not hold, with more tests neither. One that is among them with more tests is left to
    that one."""
    more = {experiment: with_more_tests(experiment) for experiment in experiments}
    serving = list(dict.fromkeys([*more, *itertools.chain(*more.values())]))
    there = {serving[number] for number in store.of_experiments(serving)["run"].unique()}
    return [
        experiment
        for experiment in experiments
        if not there.intersection([experiment, *more[experiment]]) and not more.keys() & set(more[experiment])
    ]


def sweep(
    experiments: list[Experiment],
    device: str = "auto",
    rerun: bool = False,
    workers: int | None = None,
    client: "Client | None" = None,
    minutes: float | None = None,
    parameters: Iterable[str] = ("minutes",),
) -> pd.DataFrame:
    """Trains the experiments that are not stored yet, and returns the rows of all, with ``run``: the index in the list.

    Before it trains it says how many runs that are, and for how long. On CUDA those that
    :mod:`sparsecnn.training.ensembles` says are trained together, and those networks are compiled that have runs enough
    left to repay it, see :mod:`sparsecnn.training.compiling`; a line says which.

    Args:
        device: "auto", "cpu" or "cuda".
        rerun: train all of them anew; the fresh rows are returned, those in the store stay what they are.
        workers: processes that train side by side; None = one a core on the CPU, one a GPU on CUDA.
        client: of a dask.distributed cluster whose workers then train, one run at a time each; this process alone
            writes the store.
        minutes: a budget; None = as long as it takes. Runs that do not end within it are given up, and go on next time
            at the epoch that was last saved, see training.train (on a cluster, and in a rerun, at the first). No run is
            started that would, going by the slowest so far, be neither ended nor saved within it. A run that trains in
            this process ends its epoch first, if late, and in a rerun all of them. Rows of the finished ones are
            returned; the same call later goes on.
        parameters: names of the caller's parameters, of which that line names those that make it shorter.

    Raises:
        SettingError, DataError, ResultsError: before any work starts, where a setting, a data set or the store is not
            right.
        TrainingError, ResultsError: where training or storing fails; what is stored by then stays.
        Interrupted: for a KeyboardInterrupt, likewise.
    """
    refuse_in_a_starting_process()
    for experiment in experiments:
        check_experiment(experiment)
        check_choice("architecture", experiment.architecture, LAYERS)
    if len(set(experiments)) < len(experiments):
        raise SettingError("experiments with one of them twice is not allowed: each once")
    check_type("rerun", rerun, bool)
    if workers is not None:
        check_type("workers", workers, int)
        check_range("workers", workers, least=1)
    if minutes is not None:
        check_type("minutes", minutes, float)
        check_range("minutes", minutes, above=0)
    check_choice("device", device, DEVICES)
    if client is None:  # else device and data are the workers' to have
        device = choose_device(device).type
    todo = list(experiments) if rerun else missing(experiments)
    if not todo:
        return store.of_experiments(experiments)
    if client is None:
        for name, *how in sorted({(run.dataset, run.validation, run.split, run.split_seed) for run in todo}):
            split(load(name), *how)
        for fill in {run.fill for run in todo}:
            check_installed(fill)
    if not rerun:
        check_writable(store.runs_folder())

    if workers is None:
        workers = _cores() if device == "cpu" else len(visible_gpus()) or 1
    # A cluster's device is its workers' to know.
    ensembles = ensembles_of(todo, device if client is None else "cpu", workers)
    workers = min(workers, len(ensembles)) if client is None else max(1, len(client.nthreads()))
    expected = expected_seconds(todo, device, workers) if client is None else None
    say(places())
    say(announcement(todo, workers, expected, parameters))
    compiled, why = worth_compiling(todo, device, workers, minutes)
    if why:
        say(why)

    fresh, begun = [], time.monotonic()
    with progress_bar(sum(experiment.epochs for experiment in todo), desc=number_of(todo), unit="epoch") as bar:
        reached = [0] * len(todo)

        def show(number: int, epoch: int, loss: float, metric: float) -> None:
            run = todo[number]
            if expected is None and epoch == 1 and not any(reached):
                steps = sum(todo[numbers[0]].epochs for numbers in ensembles)
                say(after_first_epoch(time.monotonic() - begun, steps, workers))
            name = f"{run.model}, {run.sparsity:.0%} missing, seed {run.seed}"
            bar.set_postfix_str(f"{name}: loss {loss:.3f}, {task_of(run.dataset).words.format(metric)}", refresh=False)
            # A run may go on from an earlier sitting, or start again on another worker.
            bar.update(max(0, epoch - reached[number]))
            reached[number] = max(epoch, reached[number])

        end = time.monotonic() + 60 * minutes if minutes else math.inf
        if client is not None:
            executor = Cluster(device, show, client)
            if not client.nthreads():
                bar.set_postfix_str("waiting for a worker")
        else:
            executor = Here(device, show, end) if workers == 1 else Processes(device, show, workers)
        try:
            with executor:
                for rows in _train_all(todo, ensembles, executor, compiled, bar, not rerun, end):
                    fresh.append(rows)
        except TimeIsUp:
            bar.write(f"{minutes} minutes are over after {len(fresh)} of {len(todo)} runs; start again to go on")
        except KeyboardInterrupt:
            kept = "a rerun stores none" if rerun else "they are stored, start again to go on"
            raise Interrupted(f"stopped after {len(fresh)} of {len(todo)} runs: {kept}") from None
    if rerun:
        return store.of_experiments(experiments, pd.concat(fresh, ignore_index=True) if fresh else no_rows())
    return store.of_experiments(experiments)


def _train_all(
    experiments: list[Experiment],
    ensembles: list[list[int]],
    executor: Here | Processes | Cluster,
    compiled: set[tuple[str, str, int]],
    bar: tqdm,
    shared: bool,
    end: float,
) -> Iterator[pd.DataFrame]:
    """The rows of each run as it finishes; where ``shared``, claimed first, stored then, and left out if it is another
    sweep that trains it. ``ensembles`` says which are trained together."""
    waiting, running, claims = deque(ensembles), {}, {}
    slowest = 0.0  # how long it took at most until a run was ended, or saved if that is sooner
    try:
        while waiting or running:
            if time.monotonic() > end or (not running and time.monotonic() + slowest > end):
                raise TimeIsUp
            for _ in range(len(waiting)):
                if len(running) >= executor.width or time.monotonic() + slowest > end:
                    break
                numbers = waiting.popleft()
                runs = {number: experiments[number] for number in numbers}
                if shared:
                    for number, run in runs.items():
                        if claim := store.claim(run):
                            claims[number] = claim
                    if others := [number for number in numbers if number not in claims]:
                        waiting.append(others)
                    unstored = missing([run for number, run in runs.items() if number in claims])
                    for number in claims.keys() & runs.keys():
                        if runs[number] not in unstored:
                            store.release(claims.pop(number))
                            bar.update(runs[number].epochs)
                    runs = {number: run for number, run in runs.items() if number in claims}
                if runs:
                    # Those that are trained together are saved together, by the name of the first.
                    resume = store.unfinished(next(iter(runs.values()))) if shared and executor.resumes else None
                    pays = network_of(next(iter(runs.values()))) in compiled
                    running[executor.submit(runs, resume, pays)] = runs, resume, time.monotonic()
            if not running:
                bar.set_postfix_str("the last ones are in the hands of another sweep")
                time.sleep(TURN)
                continue
            done, _ = wait(running, timeout=TURN, return_when=FIRST_COMPLETED)
            executor.poll()
            for future in done:
                tables = future.result()
                runs, resume, begun = running.pop(future)
                took = time.monotonic() - begun
                if resume:
                    seconds = sum(rows["seconds"].iloc[0] for rows in tables)
                    took = min(took, max(resuming.SAVE_AFTER, seconds / len(tables[0])))
                slowest = max(slowest, took)
                for number, rows in zip(runs, tables, strict=True):
                    if shared:
                        store.store(rows)
                        resuming.forget(store.unfinished(runs[number]))
                        store.release(claims.pop(number))
                    yield rows
    finally:
        for claim in claims.values():
            store.release(claim)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
