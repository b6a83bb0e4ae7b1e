"""The command that fills the store, ``python -m sparsecnn.sweep --help``, and the functions behind it."""

import argparse
import sys

from .checks import SettingError, check_choice
from .data.downloads import DataError
from .experiment import PROTOCOLS
from .files import ResultsError
from .studies import STUDIES, studies_of
from .sweeps.sweep import Interrupted, missing, sweep
from .training.train import TrainingError

__all__ = ["Interrupted", "missing", "sweep"]


def main() -> None:
    """Fills the store: ``python -m sparsecnn.sweep --help``."""
    ask = argparse.ArgumentParser(prog="python -m sparsecnn.sweep", description="Fills the store.")
    ask.add_argument("--dataset", help="mnist, caltech101 or kitti_range; the first two by default")
    ask.add_argument("--study", help=f"{', '.join(STUDIES)}; all by default")
    ask.add_argument("--protocol", help="as_reported, as_run or controlled; all three by default")
    ask.add_argument("--sparsity", type=float, help="one fraction of pixels missing; each study's own by default")
    ask.add_argument("--seeds", type=int, help="number of seeds; by default what each study is recorded with")
    ask.add_argument("--device", default="auto", help="auto (the default), cpu or cuda")
    ask.add_argument("--workers", type=int, help="runs side by side; by default one a core, or one a GPU")
    ask.add_argument("--minutes", type=float, help="stop cleanly within so many minutes")
    asked = ask.parse_args()
    for name, allowed in (("study", STUDIES), ("protocol", PROTOCOLS)):
        if getattr(asked, name) is not None:
            check_choice(name, getattr(asked, name), allowed)
    experiments = []
    for dataset in ("mnist", "caltech101") if asked.dataset is None else (asked.dataset,):
        for study, runs in studies_of(dataset, asked.sparsity, asked.seeds).items():
            if asked.study in (None, study):
                experiments += [run for run in runs if asked.protocol in (None, run.protocol)]
    sweep(
        list(dict.fromkeys(experiments)),  # a run may serve several studies
        device=asked.device,
        workers=asked.workers,
        minutes=asked.minutes,
        parameters=vars(asked),
    )


if __name__ == "__main__":  # make full
    try:
        main()
    except (SettingError, DataError, ResultsError, TrainingError, Interrupted) as error:
        sys.exit(f"{type(error).__name__}: {error}")
