"""Other convolutions that know what is missing, to compare the paper's with.

``features, mask = layer(features, mask)``: features N x C x H x W, mask N x 1 x H x W (1 = observed), arguments,
weights and initialisation as of :class:`torch.nn.Conv2d`. What lies under a 0 of the mask never matters, be it NaN.
"""

import torch.nn.functional as F
from torch import Tensor

from .arguments import check_tensors, observed_of
from .arithmetic import convolve, keep_observed
from .convolution import SparseConv2d
from .counting import window_scale

__all__ = ["MaskedConv2d", "NormalizedConv2d", "PartialConv2d"]


class PartialConv2d(SparseConv2d):
    """Liu et al., "Image Inpainting for Irregular Holes Using Partial Convolutions", ECCV 2018, equations 1 and 2: a
    sum is divided by the share of its window that is observed; where nothing is, the output is 0, not the bias."""

    def __init__(self, *args, **keywords):
        super().__init__(*args, scale="window", **keywords)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        features, seen = super().forward(features, mask)
        return keep_observed(features, seen.bool()), seen


class MaskedConv2d(SparseConv2d):
    """The paper's convolution without its division: observed pixels are summed up, and the mask goes on."""

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_tensors(features, mask, 2)
        observed = observed_of(features, mask, 2)
        geometry = self.stride, self.padding, self.dilation
        sums = convolve(keep_observed(features, observed), self.weight, *geometry, self.groups)
        _, seen = window_scale(observed, self.kernel_size, *geometry, self.eps, sums.dtype)
        sums = sums if self.bias is None else sums + self.bias.to(sums.dtype).view(-1, 1, 1)
        return sums, seen if mask is None else seen.to(mask.dtype)


class NormalizedConv2d(SparseConv2d):
    """Eldesokey, Felsberg, Khan, "Propagating Confidences through CNNs for Sparse Data Regression", BMVC 2018,
    equations 5 and 6: weights are not negative, the softplus of the parameters with their code's beta of 10; a
    confidence a channel weighs the features, and each sum is divided by the sum of its weights and confidences.

    The mask may be any confidence in [0, 1], of 1 or C channels; what comes out has one a channel, N x D x H' x W', in
    the features' dtype, and passes gradients. Padding has none.
    """

    BETA = 10.0

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        confidence = features.new_ones(()) if mask is None else mask.to(features.dtype)
        confidence = confidence.expand(len(features), *features.shape[1:])
        weight = F.softplus(self.weight, self.BETA)
        geometry = self.stride, self.padding, self.dilation, self.groups
        sums = convolve(keep_observed(features, confidence > 0) * confidence, weight, *geometry)
        norms = convolve(confidence, weight, *geometry)
        out = sums / (norms + self.eps)
        if self.bias is not None:
            out = out + self.bias.to(out.dtype).view(-1, 1, 1)
        return out, norms / weight.sum(dim=(1, 2, 3)).to(norms.dtype).view(-1, 1, 1)
