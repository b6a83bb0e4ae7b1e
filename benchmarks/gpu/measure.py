"""Does this work on a GPU, and how fast? `make gpu`: ten minutes, a part after the other, each by itself.

    python benchmarks/gpu/measure.py [--parts smoke tests ...] [--miniature]

What was measured goes into results/benchmarks_gpu.csv, a line a number, and results/benchmarks_gpu.md shows it; both
are written after each part, so that what breaks off leaves what it found. A part that fails says why, and the next one
runs. --miniature goes through all of it on a CPU in some seconds; its numbers mean nothing.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))  # the other benchmarks
import layer as layers
import training

from sparsecnn.data.datasets import available, load
from sparsecnn.experiment import MODELS, SPARSITIES, Experiment, experiment
from sparsecnn.files import REPOSITORY, output_root, replacing
from sparsecnn.models import LAYERS, NETWORKS, build
from sparsecnn.report.pages import markdown
from sparsecnn.training.batches import EnsembleBatches
from sparsecnn.training.devices import available_devices, exact_float32
from sparsecnn.training.train import precision_of, train, train_ensemble

# Of Caltech-101's networks: channels, kernel, side.
CONVOLUTIONS = [(3, 11, 224), (16, 7, 112), (16, 5, 56), (16, 3, 28)]
TO = 16  # channels
PRINTED = 100_000  # characters of the tests' log, which is kept whole


class Measurement:
    """What is measured, and where."""

    def __init__(self, device: str, miniature: bool):
        self.device, self.miniature = device, miniature
        self.rows: list[tuple[str, str, float, str]] = []
        self.part = ""
        self.begun = time.perf_counter()

    def note(self, what: str, value: float, unit: str) -> None:
        value = float(f"{value:.4g}")
        self.rows.append((self.part, what, value, unit))
        print(f"{time.perf_counter() - self.begun:6.1f} s  {self.part}: {what}: {value:g} {unit}", flush=True)

    def milliseconds(self, call: Callable[[], object]) -> float:
        """The median of some calls, after two."""
        times = []
        for _ in range(3 if self.miniature else 12):
            if self.device == "cuda":
                torch.cuda.synchronize()
            begun = time.perf_counter()
            call()
            if self.device == "cuda":
                torch.cuda.synchronize()
            times.append(1000 * (time.perf_counter() - begun))
        return statistics.median(times[2:])

    def table(self) -> pd.DataFrame:
        table = pd.DataFrame(self.rows, columns=["part", "what", "value", "unit"])
        return table.assign(device=training.name_of(self.device), torch=torch.__version__)


def smoke(here: Measurement) -> None:
    """One run of each kind, whose loss must fall."""
    few = {"train_images": 16, "batch_size": 4} if here.miniature else {}
    for model in MODELS[:1] if here.miniature else MODELS:
        (loss,) = _losses(train(experiment("shapes", "controlled", model, 0.3, epochs=2, **few), here.device))
        here.note(f"{model} on drawings, loss of the second epoch by that of the first", loss, "")
    few = {"train_images": 128, "learning_rate": 1e-3, "epochs": 3 if here.miniature else 5}
    runs = [experiment("digits", "controlled", "ConvNet", level, **few) for level in (0.3, 0.9)]
    for loss in _losses(*train_ensemble(runs, here.device)):
        here.note("ConvNet on digits in an ensemble, loss of the last epoch by that of the first", loss, "")


def _losses(*tables: pd.DataFrame) -> list[float]:
    falls = [rows["train_loss"].iloc[-1] / rows["train_loss"].iloc[0] for rows in tables]
    if not all(fall < 1 for fall in falls):  # NaN is not
        raise RuntimeError(f"the training loss does not fall: {falls}")
    return falls


def tests(here: Measurement) -> None:
    """`pytest -m cuda`, of the files that have such tests; its log is results/benchmarks_gpu_tests.txt."""
    files = [
        file
        for file in sorted((REPOSITORY / "tests").rglob("test_*.py"))
        if "mark.cuda" in file.read_text(encoding="utf-8")
    ]
    few = ["--durations=5", "--tb=short"]
    if here.miniature:
        files, few = [file for file in files if file.name == "test_cuda_agrees.py"], ["--collect-only"]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider", *few, *map(str, files)]
    log = output_root() / "results/benchmarks_gpu_tests.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:  # at once, so that what is stopped leaves it too
        ended = subprocess.run(command, cwd=REPOSITORY, stdout=file, stderr=subprocess.STDOUT)
    print(log.read_text(encoding="utf-8")[-PRINTED:], flush=True)
    here.note("pytest -m cuda, exit status (0: all passed)", ended.returncode, "")
    if ended.returncode:
        raise RuntimeError("pytest -m cuda failed")


def papermill(here: Measurement) -> None:
    """The README's call for Caltech-101, or its stand-in, where nothing is recorded yet: so it trains, few epochs."""
    asked = {"dataset": available("caltech101"), "sparsity": 0.3, "seeds": 1, "epochs": 2}
    if here.miniature:
        asked |= {"dataset": "shapes", "protocol": "controlled", "epochs": 1, "train_images": 8, "batch_size": 4}
    with tempfile.TemporaryDirectory() as folder:
        notebook = [REPOSITORY / "notebooks/03_caltech.ipynb", f"{folder}/out.ipynb"]
        settings = [word for name, value in asked.items() for word in ("-p", name, value)]
        command = [sys.executable, "-m", "papermill", *notebook, "--no-progress-bar", *settings]
        begun = time.perf_counter()
        subprocess.run(list(map(str, command)), env=os.environ | {"SPARSECNN_OUTPUT": folder}, check=True)
        took = time.perf_counter() - begun
        trained = pd.concat(pd.read_csv(file) for file in Path(folder).glob("results/runs/*.csv"))
    if here.device == "cuda" and not trained["device"].str.startswith(training.name_of("cuda")).all():
        raise RuntimeError(f"trained on {sorted(trained['device'].unique())}")
    name = "papermill 03_caltech.ipynb " + " ".join(f"-p {name} {value}" for name, value in asked.items())
    here.note(name, took, "s")
    here.note(name, (trained["epoch"] == trained["epochs"]).sum(), "runs trained")


def machine(here: Measurement) -> None:
    """What the speeds below are to be seen beside."""
    side, length = (64, 2**20) if here.miniature else (8192, 2**28)
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.randn(side, side, device=here.device).to(dtype)
        with exact_float32():
            took = here.milliseconds(lambda matrix=matrix: matrix @ matrix)
        here.note(f"product of large matrices, {_name(dtype)}", 2 * side**3 / took / 1e9, "TFLOP/s")
    host = torch.empty(length, dtype=torch.uint8)
    there = torch.empty_like(host, device=here.device)
    other = torch.empty_like(there)
    here.note("copy on the device", 2 * length / here.milliseconds(lambda: other.copy_(there)) / 1e9, "TB/s")
    here.note("copy to the device", length / here.milliseconds(lambda: there.copy_(host)) / 1e6, "GB/s")
    if here.device == "cuda":
        pinned = host.pin_memory()
        took = here.milliseconds(lambda: there.copy_(pinned))
        here.note("copy to the device, pinned", length / took / 1e6, "GB/s")


def convolutions(here: Measurement) -> None:
    """Which of cuDNN's settings, and which layout of the first convolution, pay."""
    half, whole = torch.bfloat16, torch.float32
    for deterministic, benchmark in ((True, False), (True, True), (False, False), (False, True)):
        how = f"{'deterministic' if deterministic else 'any'}, benchmark={benchmark}"
        for shape in CONVOLUTIONS:
            _convolution(here, how, *shape, half, deterministic, benchmark)
    for channels in (4, 8):
        _convolution(here, f"3 channels padded to {channels}", channels, 11, 224, half)
    _convolution(here, "2 x 2 pixels as 12 channels", 12, 7, 112, half, to=4 * TO)
    _convolution(here, "2 x 2 pixels as 12 channels, padded to 16", 16, 7, 112, half, to=4 * TO)
    _convolution(here, "channels first", 3, 11, 224, half, layout=torch.contiguous_format)
    for shape in CONVOLUTIONS[:2]:
        _convolution(here, "float32", *shape, whole)


def _convolution(
    here: Measurement,
    how: str,
    channels: int,
    kernel: int,
    side: int,
    dtype: torch.dtype,
    deterministic: bool = True,
    benchmark: bool = False,
    to: int = TO,
    layout: torch.memory_format = torch.channels_last,
) -> None:
    batch, side = (2, side // 14) if here.miniature else (128, side)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device=here.device).to(dtype).contiguous(memory_format=layout)

    image, weight = random(batch, channels, side, side), random(to, channels, kernel, kernel)
    gradient = random(batch, to, side, side)

    def backward(*of_what: bool) -> None:
        around, never = [kernel // 2] * 2, [0, 0]
        torch.ops.aten.convolution_backward(
            gradient, image, weight, None, [1, 1], around, [1, 1], False, never, 1, of_what
        )

    calls = {
        "forward": lambda: F.conv2d(image, weight, None, 1, kernel // 2),
        "by the weights": lambda: backward(False, True, False),
    }
    if channels == TO:  # the first convolution of a network needs no gradient of its input
        calls["by the input"] = lambda: backward(True, False, False)
    name = f"{channels} -> {to}, {kernel} x {kernel}, {side} x {side}"
    with exact_float32():
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic, benchmark
        for what, call in calls.items():
            here.note(f"{name}, {_name(dtype)}, {how}: {what}", here.milliseconds(call), "ms")


def steps(here: Measurement) -> None:
    """Whole steps of training, as a run takes them, beside what a large matrix product makes of their arithmetic."""
    ways = [(model, False) for model in (MODELS[:1] if here.miniature else MODELS)]
    if here.device == "cuda" and not os.environ.get("TORCH_COMPILE_DISABLE"):
        ways += [(model, True) for model in MODELS]  # each takes most of a minute to compile
    for model, compiled in ways:
        one = experiment("shapes", "controlled", model, 0.3, **({"batch_size": 2} if here.miniature else {}))
        warm, count = (1, 1) if here.miniature else (5, 40)
        if here.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        case = training.Case("", one, here.device, warm, count, epoch=count, rounds=1)
        epoch = training.ours(case, compiled=compiled)
        name = f"{model}, Caltech-101, batch {one.batch_size}, {precision_of(one, torch.device(here.device))}"
        name += ", compiled" if compiled else ""
        here.note(name, count / epoch, "steps/s")
        here.note(name, operations(one) * count / epoch / 1e12, "TFLOP/s")
        if here.device == "cuda":
            here.note(name, torch.cuda.max_memory_allocated() / 2**30, "GiB at most")


def inference(here: Measurement) -> None:
    """What an image costs a trained network: the report's three, and what else was tried."""
    size = 2 if here.miniature else 128
    image = torch.randn(size, 3, 224, 224, device=here.device).contiguous(memory_format=torch.channels_last)
    mask = torch.rand(size, 1, 224, 224, device=here.device) > 0.3
    for model in NETWORKS if not here.miniature else MODELS[:1]:
        network = build(model, "caltech").to(here.device, memory_format=torch.channels_last).eval()
        with torch.no_grad(), torch.autocast(here.device, torch.bfloat16), exact_float32():
            took = here.milliseconds(lambda network=network: network(image, mask))
        here.note(f"{model}, Caltech-101, batch {size}, bf16", 1000 * took / size, "us an image")


def operations(run: Experiment) -> int:
    """Multiplications and additions of a training step; counted on tensors without values."""
    network, (channels, height, width) = build(run.model, run.architecture).to("meta"), LAYERS[run.architecture].image
    image = torch.empty(run.batch_size, channels, height, width, device="meta")
    mask = torch.empty(run.batch_size, 1, height, width, dtype=torch.bool, device="meta")
    with FlopCounterMode(display=False) as counter:
        network(image, mask).sum().backward()
    return counter.get_total_flops()


def ensembles(here: Measurement) -> None:
    """Networks of MNIST in one step, as many as Table 3's levels by five seeds; and what making their batches takes."""
    case = training.Case("", experiment("mnist", "as_reported", MODELS[0], 0.5), here.device, 16, 192, 192, rounds=1)
    if here.miniature:
        case = case._replace(run=experiment("digits", "as_reported", MODELS[0], 0.5), warm=1, steps=1, epoch=1)
    for size in (1, 2) if here.miniature else (1, 16, 55):
        name = f"{size} SparseConvNets, MNIST, batch {case.run.batch_size}"
        here.note(name, size * case.steps / training.ours(case, size), "steps of a network/s")
    levels, seeds = SPARSITIES[10:] if here.miniature else SPARSITIES[1:], range(2 if here.miniature else 5)
    runs = [replace(case.run, sparsity=level, seed=seed) for level in levels for seed in seeds]
    source = EnsembleBatches(load(case.run.dataset), runs, torch.device(here.device))
    chosen = torch.arange(64 if here.miniature else 1024).expand(len(runs), -1)
    generators = [torch.Generator().manual_seed(run.seed) for run in runs]

    def ready() -> None:
        source.masked(chosen, source.draw("training", generators, chosen))

    here.note(f"images made ready for {len(runs)} runs", chosen.numel() / here.milliseconds(ready) * 1000, "images/s")


def layer(here: Measurement) -> None:
    """The sparse layer as multiples of nn.Conv2d; by itself `python benchmarks/layer.py`."""
    if here.miniature:
        case = ((3, 4, 3, 16), 2, "channels_last", "cpu", torch.float32, False)
        table = layers.summary(*case, layers.rounds(*case, lasting=0))
    else:
        table = layers.compare([here.device])
    for row in table[table["way"] != "nn.Conv2d"].itertuples():
        here.note(f"{row.shape}, batch {row.batch}, {row.precision}, {row.mode}: {row.way}", row.ratio, "x nn.Conv2d")


PARTS = {
    part.__name__: part for part in (smoke, tests, papermill, machine, convolutions, steps, inference, ensembles, layer)
}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def write(table: pd.DataFrame) -> None:
    """The numbers, and the page that shows them."""
    path, page = output_root() / "results/benchmarks_gpu.csv", ["# Measured by `make gpu`\n"]
    if path.exists():  # what is not measured again stays
        before, now = pd.read_csv(path), set(zip(table["part"], table["device"], strict=True))
        stays = [each not in now for each in zip(before["part"], before["device"], strict=True)]
        table = pd.concat([before[stays], table], ignore_index=True)
    with replacing(path) as file:
        table.to_csv(file, index=False)
    for (device, version, part), rows in table.groupby(["device", "torch", "part"], sort=False):
        shown = rows.set_index("what")[["value", "unit"]].rename_axis(columns=part)
        shown = markdown(shown.assign(value=shown["value"].map("{:g}".format)).fillna(""))
        page.append(f"## {part}: {device}, torch {version}\n\n{shown}")
    with replacing(output_root() / "results/benchmarks_gpu.md") as file:
        file.write("\n".join(page).encode())


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    ask.add_argument("--miniature", action="store_true")
    asked = ask.parse_args()
    if not asked.miniature and "cuda" not in available_devices():
        sys.exit("make gpu: PyTorch finds no CUDA device here, so there is nothing to measure")
    here, failed = Measurement("cpu" if asked.miniature else "cuda", asked.miniature), []
    for name in asked.parts:
        here.part = name
        try:
            PARTS[name](here)
        except Exception as error:
            failed.append(name)
            print(f"{name} FAILED: {type(error).__name__}: {error}", flush=True)
        if here.rows:
            write(here.table())
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
