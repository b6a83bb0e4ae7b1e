"""Depth completion without learning: what the networks have to be better than."""

from collections.abc import Sequence

import pandas as pd
import torch

from ..checks import check_choice
from ..data.datasets import load, split
from ..data.filling import METHODS
from ..data.masks import unpack
from ..experiment import KITTI, experiment
from ..progress import bar
from ..training.evaluation import conditions_of, masks_of_test
from ..training.objectives import objective_of
from .tables import save

__all__ = ["baselines"]


def baselines(dataset: str, seed: int = 0, methods: Sequence[str] = tuple(METHODS)) -> pd.DataFrame:
    """Each of filling.METHODS, or some, on the test scans, under the masks that a network of this seed is tested under
    elsewhere, scored as networks are.

    Args:
        dataset: "kitti_range" or "street".

    Returns:
        Columns method, test_mask, test_sparsity, mae, rmse (metres), imae, irmse (1/km).
    """
    check_choice("dataset", dataset, KITTI)
    for name in methods:
        check_choice("method", name, METHODS)
    data, run = load(dataset), experiment(dataset, "controlled", "ConvNet", 0.5)
    test = split(data, run.validation, run.split)[2]
    size, objective = tuple(data.images.shape[2:]), objective_of(dataset, len(data.classes))
    lines, conditions = [], list(conditions_of(dataset))
    with bar(len(methods) * len(conditions) * len(test), desc="filled without learning", unit="scan") as shown:
        for kind, level in conditions:
            kept = unpack(masks_of_test(dataset, seed, kind, level, len(test), size), size[1])
            for name in methods:
                total = torch.zeros(len(objective.task.metrics), dtype=torch.float64)
                for scan, mask in zip(data.images[test], kept, strict=True):
                    given = mask & (scan > 0)
                    filled = torch.from_numpy(METHODS[name](scan[0].numpy(), given[0].numpy(), around=True))
                    total += objective.tally(filled[None, None, None], scan[None, None], given[None, None])[0, 0]
                    shown.update()
                lines.append((name, kind, level, *objective.means(total.tolist(), len(test))))
    return pd.DataFrame(lines, columns=["method", "test_mask", "test_sparsity", *objective.task.metrics])


if __name__ == "__main__":
    save(baselines("kitti_range"), "baselines_kitti_range")
