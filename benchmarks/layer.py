"""What the sparse convolution costs, as a multiple of a plain convolution, beside two other mask-aware convolutions.

Forward and backward through the layer and a ReLU, eager and compiled, in turns, so that whatever else the machine does
meets all alike, and in another order each time, since a step leaves its mark on the next one's memory. In several
processes one after the other, since a process has its luck with where its code and memory lie: eager, the smallest
shape costs 1.2 times as much in one and 1.35 times in the next. The shapes are those of the Caltech-101 network's four
convolutions, and one of these with other widths and batches. On CUDA a part that takes a minute: those four at batch
128, in one process, compiled only beside nn.Conv2d, since compiling takes seconds each.

Everywhere in whole float32 or in bf16 by autocast: PyTorch's own choice for convolutions on CUDA is TF32.
"""

import itertools
import multiprocessing
import random
import time
from collections.abc import Callable

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import trange
from training import name_of

from sparsecnn import SparseConv2d
from sparsecnn.files import output_root, replacing
from sparsecnn.training.devices import available_devices, computes_in_bf16, exact_float32

PROCESSES = {"cpu": 3, "cuda": 1}
SECONDS = {"cpu": 2, "cuda": 0.3}  # in each at least three rounds, and on for so long
SHAPES = [(3, 16, 11, 224), (16, 16, 7, 112), (16, 16, 5, 56), (16, 16, 3, 28)]  # channels in and out, kernel, width
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
CASES = {
    "cpu": [
        *((shape, batch, "channels_last") for batch in (16, 128) for shape in SHAPES),
        # PyTorch's default layout.
        *((shape, 16, "contiguous") for shape in SHAPES),
        # One of them with other batches and other widths.
        *((SHAPES[2], batch, "channels_last") for batch in (1, 4, 64)),
        *(((*SHAPES[2][:3], width), 16, "channels_last") for width in (28, 112, 224)),
    ],
    "cuda": [(shape, 128, "channels_last") for shape in SHAPES],
}


class PlainConv(nn.Conv2d):
    """What the others are measured against."""

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(features), mask


class PartialConv(nn.Conv2d):
    """Liu et al., "Image Inpainting for Irregular Holes Using Partial Convolutions", ECCV 2018, equations 1 and 2."""

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            window = torch.ones(1, 1, *self.kernel_size, dtype=mask.dtype, device=mask.device)
            count = F.conv2d(mask, window, None, self.stride, self.padding, self.dilation)
            seen = count.clamp(0, 1)
            ratio = window.numel() / (count + 1e-8) * seen
        raw = self._conv_forward(features * mask, self.weight, self.bias)
        bias = self.bias.view(1, -1, 1, 1)
        return ((raw - bias) * ratio + bias) * seen, seen


class UsualSparseConv(nn.Conv2d):
    """The paper's two equations, each operation as written: a convolution of the mask, a division, a max-pooling."""

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        window = torch.ones(1, 1, *self.kernel_size, dtype=mask.dtype, device=mask.device)
        sums = self._conv_forward(features * mask, self.weight, None)
        count = F.conv2d(mask, window, None, self.stride, self.padding, self.dilation)
        features = sums / (count + 1e-8) + self.bias.view(1, -1, 1, 1)
        return features, F.max_pool2d(mask, self.kernel_size, self.stride, self.kernel_size[0] // 2)


WAYS = {
    "nn.Conv2d": PlainConv,
    "SparseConv2d": SparseConv2d,
    "sparse, as usual": UsualSparseConv,
    "partial": PartialConv,
}


def step_of(
    kind: type, shape: tuple, batch: int, layout: str, device: str, dtype: torch.dtype, compiled: bool
) -> Callable[[], None]:
    """A call that goes forward and backward once. The first convolution of a network needs no gradient of its input."""
    channels, width_out, kernel, width = shape
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(batch, channels, width, width, generator=generator)
    mask = (torch.rand(batch, 1, width, width, generator=generator) > 0.5).float().to(device)
    image = image.to(device).contiguous(memory_format=LAYOUTS[layout]).requires_grad_(channels > 3)
    layer = kind(channels, width_out, kernel, padding=kernel // 2).to(device, memory_format=LAYOUTS[layout])
    gradient = torch.randn(batch, width_out, width, width, generator=generator).to(device)
    gradient = gradient.contiguous(memory_format=LAYOUTS[layout]).to(dtype)

    def forward(image: Tensor, mask: Tensor) -> Tensor:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            return layer(image, mask)[0].relu()

    run = torch.compile(forward, dynamic=False) if compiled else forward

    def step() -> None:
        layer.zero_grad()
        image.grad = None
        run(image, mask).backward(gradient)
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def rounds(
    shape: tuple,
    batch: int,
    layout: str,
    device: str,
    dtype: torch.dtype,
    compiled: bool,
    lasting: float | None = None,
) -> pd.DataFrame:
    """Seconds that a step takes, a row a round, a column a way."""
    torch._dynamo.reset()  # it stops compiling, without a word, after some variants of one function
    ways = WAYS if device == "cpu" or not compiled else {way: WAYS[way] for way in ("nn.Conv2d", "SparseConv2d")}
    steps = {way: step_of(kind, shape, batch, layout, device, dtype, compiled) for way, kind in ways.items()}
    for step in steps.values():
        step()
        step()
    lasting = SECONDS[device] if lasting is None else lasting
    times = {way: [] for way in steps}
    begun = time.perf_counter()
    while (done := len(times["nn.Conv2d"])) < 3 or (done < 100 and time.perf_counter() - begun < lasting):
        for way, step in random.sample(list(steps.items()), len(steps)):
            start = time.perf_counter()
            step()
            times[way].append(time.perf_counter() - start)
    return pd.DataFrame(times)


def measure(device: str, dtype: torch.dtype, compiled: bool) -> list[pd.DataFrame]:
    """The rounds of every one of the device's CASES, in this process."""
    with exact_float32():
        torch.backends.cudnn.benchmark = True  # of cuDNN's ways that give the same results each time, the fastest
        return [rounds(*case, device, dtype, compiled) for case in CASES[device]]


def summary(
    shape: tuple, batch: int, layout: str, device: str, dtype: torch.dtype, compiled: bool, times: pd.DataFrame
) -> pd.DataFrame:
    ratio = times.div(times["nn.Conv2d"], axis=0)
    channels, width_out, kernel, width = shape
    return pd.DataFrame(
        {
            "shape": f"{channels} -> {width_out}, {kernel} x {kernel}, {width} x {width}"
            + ", contiguous" * (layout == "contiguous"),
            "batch": batch,
            "mode": "compiled" if compiled else "eager",
            "precision": str(dtype).removeprefix("torch."),
            "way": ratio.columns,
            "milliseconds": (1000 * times.median()).round(2).to_list(),
            "ratio": ratio.median().round(3).to_list(),
            "ratio_quarter": ratio.quantile(0.25).round(3).to_list(),
            "ratio_three_quarters": ratio.quantile(0.75).round(3).to_list(),
            "device": name_of(device, f"{torch.get_num_threads()} threads"),
            "torch": torch.__version__,
        }
    )


def precisions(device: str) -> list[torch.dtype]:
    return [torch.float32, torch.bfloat16] if computes_in_bf16(torch.device(device)) else [torch.float32]


def compare(devices: list[str]) -> pd.DataFrame:
    tables = []
    for device, compiled in itertools.product(devices, (False, True)):
        for dtype in precisions(device):
            mode = f"{device}, {dtype}, {'compiled' if compiled else 'eager'}"
            with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as fresh:
                measured = [
                    fresh.apply(measure, (device, dtype, compiled)) for _ in trange(PROCESSES[device], desc=mode)
                ]
            for case, *times in zip(CASES[device], *measured, strict=True):
                tables.append(summary(*case, device, dtype, compiled, pd.concat(times)))
                print(tables[-1].drop(columns=["device", "torch"]).to_string(index=False), "\n", flush=True)
    return pd.concat(tables, ignore_index=True)


def main() -> None:
    with replacing(output_root() / "results/benchmarks_layer.csv") as file:
        compare(available_devices()).to_csv(file, index=False)


if __name__ == "__main__":
    main()
