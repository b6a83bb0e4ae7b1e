"""Many Experiments: what is stored is read, the rest is trained, and each finished run is stored at once."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait

import pandas as pd
from tqdm.auto import tqdm

from . import results
from .datasets import load
from .experiment import Experiment, SettingError, grid
from .training import choose_device, train

__all__ = ["missing", "sweep"]


def missing(experiments: list[Experiment]) -> list[Experiment]:
    """Those that the store does not hold."""
    stored = set(results.of_experiments(experiments)["run"])
    return [experiment for i, experiment in enumerate(experiments) if i not in stored]


def sweep(
    experiments: list[Experiment],
    device: str = "auto",
    rerun: bool = False,
    workers: int | None = None,
) -> pd.DataFrame:
    """Trains the experiments that are not stored yet, and returns the rows of all, with ``run``: the index in the list.

    Args:
        device: "auto", "cpu" or "cuda".
        rerun: train all of them anew; the fresh rows are returned, those in the store stay what they are.
        workers: processes that train side by side; None = one a core on the CPU, one on CUDA.
    """
    where = choose_device(device).type
    if workers is not None and workers < 1:
        raise SettingError(f"workers={workers} is not allowed: at least 1")
    todo = list(experiments) if rerun else missing(experiments)
    fresh = []
    for rows in _train_all(todo, where, workers):
        fresh.append(rows)
        if not rerun:
            results.store(rows)
    if rerun:
        return results.of_experiments(experiments, pd.concat(fresh, ignore_index=True))
    return results.of_experiments(experiments)


def _train_all(experiments: list[Experiment], device: str, workers: int | None) -> Iterator[pd.DataFrame]:
    """The rows of each run as it finishes, under a progress bar that counts epochs."""
    if not experiments:
        return
    for name in sorted({experiment.dataset for experiment in experiments}):
        load(name)  # a data set that is not right is an error before any work starts
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if device == "cpu" and hasattr(os, "sched_getaffinity") else 1
    workers = min(workers, len(experiments))
    epochs = sum(experiment.epochs for experiment in experiments)
    with tqdm(total=epochs, desc=f"{len(experiments)} runs", unit="epoch") as bar:

        def show(experiment: Experiment, loss: float, accuracy: float) -> None:
            name = f"{experiment.model}, {experiment.sparsity:.0%} missing, seed {experiment.seed}"
            bar.set_postfix_str(f"{name}: loss {loss:.3f}, accuracy {accuracy:.1f}%", refresh=False)
            bar.update()

        if workers == 1:
            for experiment in experiments:
                yield train(experiment, device, lambda _, *seen, run=experiment: show(run, *seen))
            return
        # Spawned, not forked: a fork of a process with running threads (torch, Jupyter) can hang.
        context = multiprocessing.get_context("spawn")
        told = context.SimpleQueue()
        with ProcessPoolExecutor(workers, context, _start_worker, (told,)) as pool:
            running = {pool.submit(_work, i, experiment, device) for i, experiment in enumerate(experiments)}
            try:
                while running:
                    done, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                    while not told.empty():
                        i, *seen = told.get()
                        show(experiments[i], *seen)
                    for future in done:
                        yield future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(pool._processes.values()):
                    process.terminate()
                raise


def _start_worker(told) -> None:
    global _told
    _told = told


def _work(i: int, experiment: Experiment, device: str) -> pd.DataFrame:
    return train(experiment, device, lambda _, *seen: _told.put((i, *seen)))


if __name__ == "__main__":  # make full
    sweep(grid())
