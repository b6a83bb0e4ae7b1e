"""The networks as data: one table of layers each. The kind of convolution is a choice made when a table is built."""

import copy
import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .checks import check_choice
from .experiment import ALTERNATIVES, MODELS
from .layers import SparseConv2d
from .layers.alternatives import MaskedConv2d, NormalizedConv2d, PartialConv2d
from .layers.arithmetic import conv2d
from .layers.functional import MaskedLayer

__all__ = [
    "LAYERS",
    "ConvNet",
    "ConvNetMask",
    "Network",
    "SparseConvNet",
    "build",
    "channels_at_work",
    "count_parameters",
    "output_variances",
]


class Conv(NamedTuple):
    """A convolution that keeps height and width; a sparse one that ``dilates`` hands on the mask that the paper's
    equation gives, else the mask as it came. Its initial weights are Conv2d's times ``gain``."""

    channels: int
    kernel: int
    dilates: bool = True
    gain: float = 1


class MaxPool(NamedTuple):
    """Max-pooling without overlap, of the features and, in a network with sparse convolutions, of the mask."""

    kernel: int


class BatchNorm(NamedTuple):
    """Its running statistics, which evaluation uses, move by ``momentum`` of the way at every step; ``shared`` ones are
    one module, wherever they stand in a table."""

    momentum: float = 0.1
    shared: bool = False


class Linear(NamedTuple):
    features: int


class Dropout(NamedTuple):
    rate: float


class Wrap(NamedTuple):
    """At either end of a scan that goes all around, so many columns of the other end; below 0, as many off."""

    columns: int


RELU, FLATTEN, BATCH_NORM = "relu", "flatten", BatchNorm()


class Architecture(NamedTuple):
    image: tuple[int, int, int]  # channels, height, width
    layers: tuple


def _caltech(
    dilates: bool = True,
    batch_norm: BatchNorm | None = BATCH_NORM,
    dropout: float = 0.2,
    hidden: int = 512,
    kernels: tuple[int, ...] = (11, 7, 5, 3),
) -> Architecture:
    """Figure 5, but for what is named."""
    table = []
    for kernel in kernels:
        table += [Conv(16, kernel, dilates), batch_norm, RELU, MaxPool(2)]
    table += [FLATTEN, Linear(hidden), RELU, Dropout(dropout) if dropout else None, Linear(256), RELU, Linear(101)]
    return Architecture((3, 224, 224), tuple(layer for layer in table if layer is not None))


def _range_image(rescaled: bool = False) -> Architecture:
    """The paper's network for depth, but for a ReLU behind the last convolution, which could end a run at 0;
    ``rescaled``, each convolution starts with weights that make up for what a sparse one divides by. A cell sees 12
    cells to either side; padded by as many, what is left at the end is what convolutions that go around would give."""
    table = [Wrap(12)]
    for kernel in (11, 7, 5, 3, 3):
        table += [Conv(16, kernel, gain=kernel**2 if rescaled else 1), RELU]
    return Architecture((1, 64, 1024), (*table, Conv(1, 1), Wrap(-12)))


LAYERS = {
    # The report's Figure 4.
    "mnist": Architecture((1, 28, 28), (Conv(16, 5), RELU, Conv(1, 1), RELU, FLATTEN, Linear(100), RELU, Linear(10))),
    # The same, with a first convolution that starts 25 times larger, which is what a sparse one divides by.
    "mnist_rescaled": Architecture(
        (1, 28, 28), (Conv(16, 5, gain=25), RELU, Conv(1, 1), RELU, FLATTEN, Linear(100), RELU, Linear(10))
    ),
    # The ConvNet of the notebooks behind the report: one convolution more.
    "mnist_convnet_as_run": Architecture(
        (1, 28, 28),
        (Conv(16, 5), RELU, Conv(16, 3), RELU, Conv(1, 1), RELU, FLATTEN, Linear(100), RELU, Linear(10)),
    ),
    # The report's Figure 5, and the published notebooks' slip, in which no convolution dilates the mask.
    "caltech": _caltech(),
    "caltech_pooled_mask": _caltech(dilates=False),
    # Figure 5 with statistics for evaluation that follow a hundred steps, not ten; it trains like Figure 5.
    "caltech_slow_batch_norm": _caltech(batch_norm=BatchNorm(momentum=0.01)),
    # Figure 5 with one thing out; the report does not say how large its larger first linear layer was.
    "caltech_no_batch_norm": _caltech(batch_norm=None),
    "caltech_no_dropout": _caltech(dropout=0),
    "caltech_no_dropout_wide": _caltech(dropout=0, hidden=2048),
    # Half-way from the ConvNet below to Figure 5.
    "caltech_shared_batch_norm": _caltech(batch_norm=BatchNorm(shared=True), dropout=0),
    # The ConvNet of the notebooks behind the report: shallower, and its two batch norms are one; and with one each.
    "caltech_convnet_as_run": _caltech(batch_norm=BatchNorm(shared=True), dropout=0, kernels=(11, 7)),
    "caltech_two_convolutions": _caltech(dropout=0, kernels=(11, 7)),
    "range_image": _range_image(),
    "range_image_rescaled": _range_image(rescaled=True),
}


class Network(nn.Module):
    """A table of layers with a kind of convolution, or one for the first and one for the ``later`` ones;
    ``scores = network(image, mask)``.

    image N x C x H x W, mask N x 1 x H x W (1 = observed; None = all observed), scores N x classes, or of a table
    without linear layers N x C x H x W.
    SparseConvNet and ConvNet draw the same initial weights from the same random state.
    """

    uses_mask_channel = False
    convolution: Callable[..., nn.Module] = nn.Conv2d
    later: Callable[..., nn.Module] | None = None

    def __init__(self, architecture: str = "mnist"):
        check_choice("architecture", architecture, LAYERS)
        super().__init__()
        (channels, height, width), table = LAYERS[architecture]
        size = channels + self.uses_mask_channel
        self.layers = nn.ModuleList()
        shared, kind = None, self.convolution
        for layer in table:
            match layer:
                case Conv(width_out, kernel, dilates, gain):
                    convolution, kind = kind(size, width_out, kernel, padding="same"), self.later or kind
                    convolution.dilates = dilates
                    convolution.weight.data *= gain
                    self.layers.append(convolution)
                    size = width_out
                case MaxPool(kernel):
                    # Before the ReLU that precedes it in the table: the maximum is the same, and fewer places need it.
                    after_relu = len(self.layers) > 0 and isinstance(self.layers[-1], nn.ReLU)
                    self.layers.insert(len(self.layers) - after_relu, nn.MaxPool2d(kernel))
                    height, width = height // kernel, width // kernel
                case Linear(width_out):
                    self.layers.append(nn.Linear(size, width_out))
                    size = width_out
                case Wrap(columns):
                    pad = nn.CircularPad2d if columns > 0 else nn.ZeroPad2d
                    self.layers.append(pad((columns, columns, 0, 0)))
                case Dropout(rate):
                    self.layers.append(nn.Dropout(rate))
                case BatchNorm(momentum, is_shared):
                    batch_norm = shared or nn.BatchNorm2d(size, momentum=momentum)
                    shared = batch_norm if is_shared else None
                    self.layers.append(batch_norm)
                case "relu":
                    # In place: its input is always the fresh output of another layer.
                    self.layers.append(nn.ReLU(inplace=True))
                case "flatten":
                    self.layers.append(nn.Flatten())
                    size *= height * width

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            image = _plain(layer, image)
        return image


class ConvNet(Network):
    """Plain convolutions; the mask is ignored, missing pixels are whatever value stands in their place."""


class ConvNetMask(Network):
    """ConvNet + mask: plain convolutions, the mask is one more input channel."""

    uses_mask_channel = True

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = _all_observed(image) if mask is None else mask
        mask = mask.to(image.dtype).expand(len(image), -1, -1, -1)
        image = torch.cat([image, mask], dim=1)
        if image.device.type == "cuda":  # where to join them loses the layout that is fast there
            image = image.contiguous(memory_format=torch.channels_last)
        return super().forward(image)


class ConvNetRescaled(Network):
    """ConvNet whose input is divided by the share of its pixels that is observed: sparsity normalisation of Yi et al.,
    "Why Not to Use Zero Imputation? Correcting Sparsity Bias in Training Neural Networks", ICLR 2020. For images whose
    missing pixels are 0."""

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            image = image / mask.to(image.dtype).mean(dim=(1, 2, 3), keepdim=True).clamp(min=1 / mask[0].numel())
        return super().forward(image)


class WindowMeanConv2d(nn.Conv2d):
    """Conv2d whose sums are divided by the number of weights a channel: the paper's division, of a full window."""

    def forward(self, image: Tensor) -> Tensor:
        weight = self.weight / math.prod(self.kernel_size)
        return conv2d(image, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ConvNetDivided(Network):
    """The division without the mask."""

    convolution = WindowMeanConv2d


class SparseConvNet(Network):
    """Sparse convolutions; the mask goes from one to the next."""

    convolution = SparseConv2d

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = _all_observed(image) if mask is None else mask
        for layer in self.layers:
            image, mask = _through(layer, image, mask)
        return image

    def trace(self, image: Tensor, mask: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
        """Features and mask after each of ``self.layers``, the input first."""
        steps = [(image, _all_observed(image) if mask is None else mask)]
        for layer in self.layers:
            image, mask = steps[-1]
            steps.append(_through(layer, image.clone(), mask))  # a clone, since ReLU works in place
        return steps


class FirstLayerSparse(SparseConvNet):
    """A sparse convolution first, which fills most gaps, and plain ones behind it."""

    later = nn.Conv2d


class MaskedConvNet(SparseConvNet):
    """The mask without the division."""

    convolution = MaskedConv2d


class PartialConvNet(SparseConvNet):
    convolution = PartialConv2d


class NormalizedConvNet(SparseConvNet):
    """Its max-pooling is that of the others, of features and of confidences each by themselves."""

    convolution = NormalizedConv2d


NETWORKS = dict(zip(MODELS, (SparseConvNet, ConvNet, ConvNetMask), strict=True)) | dict(
    zip(
        ALTERNATIVES,
        (ConvNetRescaled, FirstLayerSparse, ConvNetDivided, MaskedConvNet, PartialConvNet, NormalizedConvNet),
        strict=True,
    )
)


def build(model: str, architecture: str = "mnist") -> Network:
    """The network that an Experiment names."""
    check_choice("model", model, NETWORKS)
    return NETWORKS[model](architecture)


def count_parameters(network: nn.Module) -> int:
    return sum(math.prod(parameter.shape) for parameter in network.parameters())


@torch.no_grad()
def channels_at_work(network: Network, image: Tensor, mask: Tensor) -> int:
    """How many channels of the first convolution its ReLU both passes and stops, each in at least 1% of the places.

    The others are dead (always 0) or linear (never 0) on these images.
    """
    first = network.layers[0]
    features = first(image, mask)[0] if isinstance(first, MaskedLayer) else first(image)
    passed = (features > 0).float().mean(dim=(0, 2, 3))
    return int(((passed > 0.01) & (passed < 0.99)).sum())


@torch.no_grad()
def output_variances(network: Network, image: Tensor, mask: Tensor) -> dict[str, float]:
    """The variance of what each convolution and each linear layer gives in training: over the batch and, of a
    convolution, over places; the mean over its channels or features."""
    variances, counts = {}, Counter()
    network = copy.deepcopy(network).train()  # whose running statistics move

    def measure(layer: nn.Module, _, output: Tensor | tuple[Tensor, Tensor]) -> None:
        kind = "linear layer" if isinstance(layer, nn.Linear) else "convolution"
        counts[kind] += 1
        features = output[0] if isinstance(layer, MaskedLayer) else output
        variances[f"{kind} {counts[kind]}"] = features.transpose(0, 1).flatten(1).var(dim=1).mean().item()

    for layer in network.layers:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(measure)
    network(image, mask)
    return variances


def _plain(layer: nn.Module, image: Tensor) -> Tensor:
    if type(layer) is nn.Conv2d and not layer._forward_hooks:  # who looks on gets to see the layer
        return conv2d(image, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    return layer(image)


def _through(layer: nn.Module, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(layer, MaskedLayer):
        image, seen = layer(image, mask)
        return image, seen if layer.dilates else mask
    if isinstance(layer, (nn.MaxPool2d, nn.CircularPad2d, nn.ZeroPad2d)):
        return layer(image), layer(mask.to(image.dtype)).to(mask.dtype)
    return layer(image), mask


def _all_observed(image: Tensor) -> Tensor:
    return torch.ones_like(image[:1, :1], dtype=torch.bool)
