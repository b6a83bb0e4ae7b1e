"""The runs of the studies beside Tables 3 and 4: each grid changes the protocols' settings one or two at a time."""

import itertools

from ..experiment import CALTECH, KITTI, MNIST, Experiment, grid
from .alternatives import adaptations, alternatives
from .bridges import Step, ablations, batch_norms, bridge, bridges
from .depth import depth_training
from .matrices import matrix, other_splits, rescaled_starts
from .settings import hyperparameters, late_drop, weight_decay

__all__ = [
    "STUDIES",
    "Step",
    "ablations",
    "adaptations",
    "alternatives",
    "batch_norms",
    "bridge",
    "bridges",
    "depth_training",
    "discussion",
    "hyperparameters",
    "late_drop",
    "matrix",
    "other_splits",
    "rescaled_starts",
    "studies_of",
    "weight_decay",
]

STUDIES = (
    "matrix", "table", "rescaled_starts", "hyperparameters", "bridges", "ablations", "late_drop", "weight_decay",
    "other_splits", "batch_norms", "alternatives", "adaptations", "depth_training",
)  # fmt: skip


def discussion(dataset: str, **asked) -> dict[str, list[Experiment]]:
    """The runs of the matrix, of the bridges and of the ablations; arguments as for these."""
    found = {"matrix": matrix(dataset, **asked)}
    for (level, model), steps in bridges(dataset, **asked).items():
        runs = (run for step in steps for run in step.runs)
        found[f"bridge of {model} at {level:.0%}"] = list(dict.fromkeys(runs))
    if dataset in CALTECH:
        found["ablations"] = list(itertools.chain(*ablations(dataset, **asked).values()))
    return found


def studies_of(dataset: str, sparsity: float | None = None, seeds: int | None = None) -> dict[str, list[Experiment]]:
    """The runs of a data set by the study that they are for; some serve several studies.

    The matrix comes first, since its runs also serve as the table's ``controlled`` ones, and not the other way round.
    """
    asked = {"dataset": dataset, "sparsity": sparsity, "seeds": seeds}
    of_mnist, of_caltech = dataset in MNIST, dataset in CALTECH
    of_report = of_mnist or of_caltech
    runs = (
        matrix(**asked),
        grid(**asked),
        rescaled_starts(**asked) if of_mnist else [],
        hyperparameters(**asked) if of_report else [],
        [run for steps in bridges(**asked).values() for step in steps for run in step.runs] if of_report else [],
        list(itertools.chain(*ablations(**asked).values())) if of_caltech else [],
        list(itertools.chain(*late_drop(**asked).values())) if of_caltech else [],
        weight_decay(**asked) if of_caltech else [],
        other_splits(**asked) if of_caltech else [],
        list(itertools.chain(*batch_norms(**asked).values())) if of_caltech else [],
        sorted(itertools.chain(*alternatives(**asked).values()), key=lambda run: run.seed) if of_report else [],
        list(itertools.chain(*adaptations(**asked).values())) if of_report else [],
        list(itertools.chain(*depth_training(**asked).values())) if dataset in KITTI else [],
    )
    return dict(zip(STUDIES, runs, strict=True))
