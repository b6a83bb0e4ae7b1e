"""Whether it pays to compile a network, which takes most of a minute and makes a run some seconds faster."""

from collections import Counter

from ..experiment import CALTECH, Experiment

__all__ = ["network_of", "worth_compiling"]

# By results/benchmarks_gpu.md: on an H200 1.5 to 1.6 times as many steps a second, which takes 3 s off a run.
# Whole batches took 23 s to compile; that the other two shapes take as long again is an estimate.
REPAID_BY = 15  # runs of one network in one process
SECONDS_A_RUN = 10


def network_of(run: Experiment) -> tuple[str, str, int]:
    """What one compiled network serves: fixed shapes are compiled for, so the batch size is part of it."""
    return run.model, run.architecture, run.batch_size


def worth_compiling(
    experiments: list[Experiment], device: str, workers: int, minutes: float | None = None
) -> tuple[set[tuple[str, str, int]], str]:
    """Those networks, by :func:`network_of`, that ``workers`` processes should compile before they train these runs, or
    as many as fit into ``minutes``; and a line that says which and why. None, and no line, on the CPU, where compiled
    networks are no faster."""
    counts = Counter(network_of(run) for run in experiments if device != "cpu" and run.dataset in CALTECH)
    fitting = 1.0 if minutes is None else min(1, 60 * minutes * workers / SECONDS_A_RUN / max(1, counts.total()))
    compiled = {network for network, runs in counts.items() if runs * fitting >= REPAID_BY * workers}
    words = []
    for network, runs in counts.items():
        model, architecture, batch_size = network
        how = "compiled" if network in compiled else "not compiled"
        words.append(f"{model} ({architecture}, batch {batch_size}) {how}, {runs} left to train")
    budget = f" within {minutes:g} minutes" if minutes is not None else ""
    return compiled, ", ".join(words) + (f"; that pays from about {REPAID_BY * workers} on{budget}" if words else "")
