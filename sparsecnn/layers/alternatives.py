"""Other convolutions that know what is missing, to compare the paper's with.

``features, mask = layer(features, mask)``: features N x C x H x W, or one image without N, mask N x 1 x H x W (1 =
observed); arguments, weights and initialisation as of :class:`torch.nn.Conv2d`, whose padding is of missing zeros here.
What lies under a 0 of the mask never matters, be it NaN. ValueError, in one line, for what is not allowed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .arguments import check_parameters, check_tensors, check_weight, check_window, observed_of
from .arithmetic import convolve, keep_observed
from .convolution import _SparseConv
from .counting import edges_of, window_scale
from .functional import sparse_conv2d, unbatched

__all__ = ["MaskedConv2d", "NormalizedConv2d", "PartialConv2d"]


class _Alternative(_SparseConv, nn.Conv2d):
    """What the three have in common."""

    dims, function = 2, staticmethod(sparse_conv2d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        device=None,
        dtype=None,
    ):
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, device=device, dtype=dtype
        )

    def check(self, features: Tensor, mask: Tensor | None) -> None:
        """Raises ValueError for what does not fit the layer; features N x C x H x W."""
        check_tensors(features, mask, 2)
        check_weight(features, self.weight, 2, self.groups, "D x C / groups")
        check_parameters(features, self.weight, self.bias, self.in_channels, self.out_channels)
        edges = edges_of(self.kernel_size, self.padding, self.dilation)
        check_window(features, self.weight, self.padding, edges, self.dilation, "zeros")

    def convolve(self, features: Tensor, weight: Tensor, seen: Tensor) -> Tensor:
        """Exactly 0 where nothing is ``seen``, where a Winograd convolution's sum is what rounding leaves."""
        groups = features.shape[1] // weight.shape[1]
        return keep_observed(convolve(features, weight, self.stride, self.padding, self.dilation, groups), seen)

    def seen(self, observed: Tensor) -> Tensor:
        """Where a window has an observed pixel: one channel, or where ``observed`` has more, all that come out."""
        geometry = self.kernel_size, self.stride, self.padding, self.dilation
        _, seen = window_scale(observed, *geometry, self.eps, self.weight.dtype, groups=self.groups)
        seen = seen.bool()
        return seen.repeat_interleave(self.out_channels // self.groups, 1) if seen.shape[1] > 1 else seen

    def plus_bias(self, sums: Tensor) -> Tensor:
        return sums if self.bias is None else sums + self.bias.to(sums.dtype).view(-1, 1, 1)


class PartialConv2d(_Alternative):
    """Liu et al., "Image Inpainting for Irregular Holes Using Partial Convolutions", ECCV 2018, equations 1 and 2: a
    sum is divided by the share of its window that is observed; where nothing is, the output is 0, not the bias."""

    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self.scale = "window"

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        features, seen = super().forward(features, mask)
        return keep_observed(features, seen.bool()), seen


class MaskedConv2d(_Alternative):
    """The paper's convolution without its division: observed pixels are summed up, and the mask goes on."""

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if isinstance(features, Tensor) and features.dim() == 3:
            return unbatched(self, features, mask)
        self.check(features, mask)
        observed = observed_of(features, mask, 2)
        seen = self.seen(observed)
        sums = self.convolve(keep_observed(features, observed), self.weight, seen)
        return self.plus_bias(sums), seen if mask is None else seen.to(mask.dtype)


class NormalizedConv2d(_Alternative):
    """Eldesokey, Felsberg, Khan, "Propagating Confidences through CNNs for Sparse Data Regression", BMVC 2018: weights
    are not negative, the softplus of the parameters with the beta of 10 of their code; a confidence a channel weighs
    the features, and each sum is divided by the sum of its weights and confidences, before the bias is added:

        f(x, c) = sum_ij c_ij x_ij w_ij / (sum_ij c_ij w_ij + eps) + b          f_c(c) = sum_ij c_ij w_ij / sum_ij w_ij

    The mask may be any confidence in [0, 1], of 1 or C channels, whole numbers count as in the other layers; what comes
    out has one a channel, D x H' x W', in the features' dtype, and passes gradients. Padding has none.
    """

    BETA = 10.0

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if isinstance(features, Tensor) and features.dim() == 3:
            return unbatched(self, features, mask)
        self.check(features, mask.detach() if isinstance(mask, Tensor) else mask)
        if mask is None:
            mask = torch.ones_like(features[:1, :1])
        confidence = (mask if mask.is_floating_point() else mask != 0).to(features.dtype)
        seen = self.seen(confidence > 0)
        features = keep_observed(features, confidence > 0) * confidence
        weight = F.softplus(self.weight, self.BETA)
        sums = self.convolve(features, weight, seen)
        # One confidence for all channels weighs as their weights together.
        norms = self.convolve(confidence, weight if confidence.shape[1] > 1 else weight.sum(1, keepdim=True), seen)
        exact = torch.promote_types(norms.dtype, torch.float32)  # in which eps does not vanish
        out = (sums / (norms.to(exact) + self.eps)).to(sums.dtype)
        whole = weight.sum(dim=(1, 2, 3)).view(-1, 1, 1)
        return self.plus_bias(out), (norms / whole.to(exact)).to(norms.dtype)
