"""Many networks of one shape as one: small ones leave a GPU idle, and many take hardly longer than one.

An ensemble's features are R x N x C x H x W: a leading axis of runs, each with weights of its own. A convolution is
written as the matrix product that it amounts to: for products of many small matrices GPUs have a fast way.
"""

import math
from collections import defaultdict
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.inpainting import METHODS
from ..experiment import ADAPTED, MNIST, MODELS, Experiment
from ..layers import SparseConv2d, keep_observed, window_scale
from ..models import FLATTEN, LAYERS, RELU, Conv, Linear, Network
from .evaluation import BATCHES

__all__ = ["Ensemble", "ensembles_of"]

MEMORY = 0.5  # of what a device has free, at most, for an ensemble's feature maps


class Ensemble(nn.Module):
    """``scores = ensemble(image, mask)``: what each of the networks gives for images and masks of its own.

    image R x N x C x H x W, mask R x N x 1 x H x W, scores R x N x classes. Parameters are those of the networks with a
    leading axis of length R, in the order of ``networks[0].parameters()``. The networks are of one kind and
    architecture, of those for MNIST.
    """

    def __init__(self, networks: list[Network]):
        super().__init__()
        self.uses_mask_channel = networks[0].uses_mask_channel
        self.layers = tuple(networks[0].layers)  # not a ModuleList, since their own weights are not this module's
        of_each = zip(*(network.parameters() for network in networks), strict=True)
        self.stacked = nn.ParameterList(nn.Parameter(torch.stack(same).detach()) for same in of_each)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        if self.uses_mask_channel:
            image = torch.cat([image, mask.to(image.dtype)], dim=2)
        parameters = iter(self.stacked)
        for layer in self.layers:
            match layer:
                case SparseConv2d():
                    sums = _convolve(keep_observed(image, mask), next(parameters), layer)
                    geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.eps)
                    scale, seen = window_scale(mask.flatten(0, 1), *geometry, image.dtype)
                    scale, seen = (each.unflatten(0, mask.shape[:2]) for each in (scale, seen))
                    image = torch.addcmul(_of_channels(next(parameters)), sums, scale)
                    mask = seen.bool() if layer.dilates else mask
                case nn.Conv2d():
                    image = _convolve(image, next(parameters), layer) + _of_channels(next(parameters))
                case nn.Linear():
                    weight, bias = next(parameters), next(parameters)
                    image = torch.baddbmm(bias.unsqueeze(1), image, weight.transpose(1, 2))
                case nn.ReLU():
                    image = F.relu(image, inplace=True)
                case nn.Flatten():
                    image = image.flatten(2)
                case _:
                    raise TypeError(f"no ensemble has a layer {layer}")
        return image


def _convolve(image: Tensor, weight: Tensor, layer: nn.Conv2d) -> Tensor:
    """Without bias; R x N x C x H x W by R x D x C x K x K, of a layer that keeps height and width."""
    high, wide = layer.kernel_size
    columns = image.flatten(3)
    if (high, wide) != (1, 1):
        padded = F.pad(image, (wide // 2, wide // 2, high // 2, high // 2))
        # By views and one copy: F.unfold is a kernel an image on CUDA.
        windows = padded.unfold(3, high, 1).unfold(4, wide, 1)  # R x N x C x H x W x K x K
        columns = windows.permute(0, 1, 2, 5, 6, 3, 4).flatten(5).flatten(2, 4)
    return (weight.flatten(2).unsqueeze(1) @ columns).unflatten(3, image.shape[3:])


def _of_channels(bias: Tensor) -> Tensor:
    return bias[:, None, :, None, None]


def ensembles_of(experiments: list[Experiment], device: str, workers: int = 1) -> list[list[int]]:
    """The experiments' indices, those together that one ensemble trains: on CUDA MNIST's, with the same settings but
    for seed and sparsity, shared out among the workers. The CPU is as busy with one network as with many, and so is a
    GPU with one of Caltech-101's.

    Training on every sparsity is left alone: its masks depend on how many are drawn at once. So is what is tested
    adapted.
    """
    ensembles = defaultdict(list)
    for number, run in enumerate(experiments):
        alone = run.trained_at != "own sparsity" or run.tested_at == ADAPTED
        together = device == "cuda" and run.dataset in MNIST and not alone and _is_known(run)
        ensembles[replace(run, seed=0, sparsity=0.0) if together else number].append(number)
    parts = []
    for numbers in ensembles.values():
        most = 1
        if len(numbers) > 1:
            most = min(_most(experiments[numbers[0]], workers), math.ceil(len(numbers) / workers))
        parts += [numbers[i : i + most] for i in range(0, len(numbers), most)]
    return parts


def _is_known(run: Experiment) -> bool:
    if run.model not in MODELS or run.fill in METHODS:
        return False
    return all(
        isinstance(layer, (Conv, Linear)) or layer in (RELU, FLATTEN) for layer in LAYERS[run.architecture].layers
    )


def _most(run: Experiment, workers: int) -> int:
    """How many such runs fit into a worker's share of a GPU's memory."""
    (channels, height, width), table = LAYERS[run.architecture]
    numbers = 0  # that a pixel's features, and the columns they are made from, take
    for layer in table:
        if isinstance(layer, Conv):
            numbers += channels * layer.kernel**2 + 3 * layer.channels
            channels = layer.channels
    images = max(run.batch_size, BATCHES[width])
    free, _ = torch.cuda.mem_get_info()
    share = MEMORY * free / math.ceil(workers / torch.cuda.device_count())
    return max(1, int(share / (4 * numbers * height * width * images)))
