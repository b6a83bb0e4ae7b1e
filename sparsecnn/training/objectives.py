"""What networks are trained by and measured by, for each task.

Tensors have a leading axis of runs: output and label of R runs and N images, the mask that the networks were given.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..experiment import task_of
from ..tasks import CLASSIFICATION, DEPTH, Task

__all__ = ["FARTHEST", "NEAREST", "Objective", "objective_of"]

# Metres, between which KITTI's scanner measures; an answer outside is counted as the nearer end.
NEAREST, FARTHEST = 1.0, 120.0
PER_KM = 1000.0


class Objective(NamedTuple):
    """A task's numbers.

    task    what they are of
    losses  by name: (output, label) -> R x N, differentiable
    score   (output, label, mask) -> R x N, the task's first metric, an image each, before Task.scale
    tally   (output, label, mask) -> R x N x K, what is summed up over images in an evaluation
    """

    task: Task
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]]
    score: Callable[[Tensor, Tensor, Tensor], Tensor]
    tally: Callable[[Tensor, Tensor, Tensor], Tensor]

    def means(self, total: list[float], count: int) -> list[float]:
        """The task's metrics of so many images, in its units, from the sum of their tallies; NaN for no images."""
        if count == 0:
            return [float("nan")] * len(self.task.metrics)
        totals = [sum(total)] if self.task is CLASSIFICATION else total
        return [round(self.task.scale * each / count, 4) for each in totals]

    def details(self, total: list[float]) -> str | None:
        """The tally itself, where a row has it: correctly classified images, a number a class."""
        return " ".join(map(str, total)) if self.task is CLASSIFICATION else None


def objective_of(dataset: str, classes: int) -> Objective:
    """``classes``: how many a classification is between."""
    if task_of(dataset) is DEPTH:
        losses = {
            "absolute error": lambda output, scan: _over_returns((output.float() - scan).abs(), scan > 0),
            "squared error": lambda output, scan: _over_returns((output.float() - scan) ** 2, scan > 0),
            "absolute error of inverse depth": _inverse_error,
        }
        return Objective(DEPTH, losses, _absolute_error, depth_errors)

    def hits_by_class(scores: Tensor, label: Tensor, mask: Tensor) -> Tensor:
        return F.one_hot(label, classes) * _hits(scores, label, mask).unsqueeze(2)

    return Objective(CLASSIFICATION, {"cross entropy": _cross_entropy}, _hits, hits_by_class)


def _cross_entropy(scores: Tensor, label: Tensor) -> Tensor:
    losses = F.cross_entropy(scores.float().flatten(0, 1), label.flatten(), reduction="none")
    return losses.view(label.shape)


def _hits(scores: Tensor, label: Tensor, _: Tensor) -> Tensor:
    return scores.argmax(2) == label


def _over_returns(errors: Tensor, where: Tensor) -> Tensor:
    """Their mean over those cells of each scan; 0 for a scan without any."""
    where = where.flatten(2)
    return torch.where(where, errors.flatten(2), 0).sum(dim=2) / where.sum(dim=2).clamp(min=1)


def _inverse_error(output: Tensor, scan: Tensor) -> Tensor:
    """In 1/m; below the nearest depth a scanner measures the inverse is that one's, with the slope of its line."""
    depth = output.float()
    inverse = torch.where(depth > NEAREST, 1 / depth.clamp(min=NEAREST), (2 * NEAREST - depth) / NEAREST**2)
    return _over_returns((inverse - 1 / scan.clamp(min=NEAREST)).abs(), scan > 0)


def _asked(output: Tensor, scan: Tensor, given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Answers and measurements in metres, float64, and the cells that are scored."""
    return output.double().clamp(NEAREST, FARTHEST), scan.double().clamp(min=NEAREST), (scan > 0) & ~given


def _absolute_error(output: Tensor, scan: Tensor, given: Tensor) -> Tensor:
    """The first of :func:`depth_errors` alone, which training asks for at every step. R x N."""
    depth, truth, asked = _asked(output, scan, given)
    return _over_returns((depth - truth).abs(), asked)


def depth_errors(output: Tensor, scan: Tensor, given: Tensor) -> Tensor:
    """MAE and RMSE in m, and of inverse depth in 1/km, over those cells of each scan that have a return and were not
    given, so that who copies the input gains nothing by it. R x N x 4, float64.

    Args:
        output, scan: R x N x 1 x H x W, in metres, 0 in ``scan`` = no return.
        given: R x N x 1 x H x W, bool.
    """
    depth, truth, asked = _asked(output, scan, given)
    parts = []
    for unit, error in ((1.0, depth - truth), (PER_KM, 1 / depth - 1 / truth)):
        parts += [unit * _over_returns(error.abs(), asked), unit * _over_returns(error**2, asked).sqrt()]
    return torch.stack(parts, dim=2)
