"""Batch norm whose statistics count observed places only."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import arguments
from .functional import MaskedLayer, overridable

DOC = """Batch norm under a mask; parameters, buffers and state_dict are those of :class:`torch.nn.BatchNorm{n}d`.

    ``features, mask = norm(features, mask)`` with features N x C{axes} and a mask of one channel, or as many as the
    features, that may be broadcast over the batch; it comes out as it came. None: all observed. Mean and variance of
    each channel, the running ones too, are those of its observed places; missing places hold 0. A batch with none
    observed leaves the running statistics as they are. Arguments as in BatchNorm{n}d.

    Raises:
        ValueError: for features or a mask that don't fit, in one line.
    """


class _SparseBatchNorm(MaskedLayer):
    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        by_batch = self.training or self.running_mean is None
        momentum = self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if momentum is None:
                momentum = 1 / self.num_batches_tracked.item()
        running = (None, None)
        if not self.training or self.track_running_stats:
            running = (self.running_mean, self.running_var)
        numbers = (by_batch, momentum or 0.0, self.eps, self.dims)
        return _batch_norm(features, mask, *running, self.weight, self.bias, *numbers)


@overridable
def _batch_norm(
    features: Tensor,
    mask: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    by_batch: bool,
    momentum: float,
    eps: float,
    dims: int,
) -> tuple[Tensor, Tensor | None]:
    arguments.check_dense("features", features)
    spatial = features.dim() - 2
    if spatial not in ((0, 1) if dims == 1 else (dims,)):
        raise ValueError(f"features {tuple(features.shape)} are not allowed: N x C{arguments.AXES[dims]}")
    arguments.check_tensors(features, mask, spatial)
    if mask is None:
        return F.batch_norm(features, running_mean, running_var, weight, bias, by_batch, momentum, eps), None
    observed = arguments.observed_of(features, mask, spatial)
    kept = torch.where(observed, features, 0)
    if not by_batch:
        return torch.where(observed, F.batch_norm(kept, running_mean, running_var, weight, bias, eps=eps), 0), mask
    over = [axis for axis in range(features.dim()) if axis != 1]
    exact = kept.to(torch.promote_types(features.dtype, torch.float32))
    count = observed.expand(len(features), *observed.shape[1:]).to(exact.dtype).sum(over, keepdim=True)
    some = count.clamp(min=1)
    mean = exact.sum(over, keepdim=True) / some
    centred = torch.where(observed, exact - mean, 0)
    variance = centred.square().sum(over, keepdim=True) / some
    if running_mean is not None:
        _follow(running_mean, mean, count > 0, momentum)
        _follow(running_var, variance * some / (some - 1).clamp(min=1), count > 0, momentum)
    normed = centred * torch.rsqrt(variance + eps)
    if weight is not None:
        around = (-1, *[1] * spatial)
        normed = torch.where(observed, torch.addcmul(bias.view(around), normed, weight.view(around)), 0)
    return normed.to(features.dtype), mask


@torch.no_grad()
def _follow(running: Tensor, batch: Tensor, any_observed: Tensor, momentum: float) -> None:
    """Moves the running statistics so much of the way to those of the batch, where it has any."""
    there = batch.flatten().to(running.dtype)
    running.lerp_(torch.where(any_observed.flatten(), there, running), momentum)


def take_over(cls, norm: nn.Module):
    """The masked norm with the parameters and buffers, the very tensors, of one of PyTorch's.

    Raises:
        ValueError: for anything but PyTorch's own class, since what is derived from it may compute something else.
    """
    plain = cls.__bases__[1]
    if type(norm) not in (plain, cls):
        raise ValueError(f"norm of type {type(norm).__name__} is not allowed: torch.nn.{plain.__name__}")
    layer = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, device="meta")
    layer._parameters, layer._buffers = dict(norm._parameters), dict(norm._buffers)
    return layer.train(norm.training)


class SparseBatchNorm1d(_SparseBatchNorm, nn.BatchNorm1d):
    __doc__ = DOC.format(n=1, axes=" x L, or N x C,")
    dims = 1
    from_batch_norm1d = classmethod(take_over)


class SparseBatchNorm2d(_SparseBatchNorm, nn.BatchNorm2d):
    __doc__ = DOC.format(n=2, axes=" x H x W")
    dims = 2
    from_batch_norm2d = classmethod(take_over)


class SparseBatchNorm3d(_SparseBatchNorm, nn.BatchNorm3d):
    __doc__ = DOC.format(n=3, axes=" x D x H x W")
    dims = 3
    from_batch_norm3d = classmethod(take_over)
