"""Where the time of a training step goes: SparseConvNet, MNIST at batch 64 and Caltech-101 at 128, at 50% sparsity.

Beside the time of a step and of its costliest operations stand two floors: its arithmetic at the rate of a large matrix
product here, and its traffic, each layer's output there and back, at the rate of a large copy. On one CPU thread, as a
sweep trains, and on CUDA where there is one. Caltech-101's pictures are drawn, which cost the same.
"""

import time
from collections.abc import Callable

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode
from training import name_of

from sparsecnn.data.datasets import load
from sparsecnn.experiment import Experiment, experiment
from sparsecnn.files import output_root, replacing
from sparsecnn.training.batches import EnsembleBatches
from sparsecnn.training.devices import available_devices, exact_float32, keep_freed_memory
from sparsecnn.training.loop import networks_of
from sparsecnn.training.train import precision_of

RUNS = {
    "MNIST": experiment("mnist", "as_reported", "SparseConvNet", 0.5),
    "Caltech-101": experiment("shapes", "controlled", "SparseConvNet", 0.5),
}
COSTLIEST = 8
PROFILED = 3  # steps


def milliseconds(call: Callable, device: str, seconds: float = 3) -> float:
    """The median of as many calls as fit, and at least five."""
    call()
    times, begun = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return pd.Series(times).median()


def rates(device: str, precision: torch.dtype) -> tuple[float, float]:
    """Operations, and bytes, a millisecond."""
    side = 2048 if device == "cpu" else 8192
    matrix = torch.randn(side, side, device=device).to(precision)
    long = torch.empty(2**26 if device == "cpu" else 2**30, dtype=torch.uint8, device=device)
    there = torch.empty_like(long)
    return (
        2 * side**3 / milliseconds(lambda: matrix @ matrix, device),
        2 * len(long) / milliseconds(lambda: there.copy_(long), device),
    )


def measure(title: str, run: Experiment, device: str) -> pd.DataFrame:
    precision = torch.bfloat16 if precision_of(run, torch.device(device)) == "bf16" else torch.float32
    autocast = torch.autocast(device, torch.bfloat16, enabled=precision == torch.bfloat16)
    network, compute = networks_of([run], torch.device(device))
    optimiser = torch.optim.Adam(network.parameters(), fused=True)
    source = EnsembleBatches(load(run.dataset), [run], torch.device(device))
    chosen = torch.arange(run.batch_size, device=device).unsqueeze(0) % 256
    generators = [torch.Generator()]

    def read() -> tuple[Tensor, Tensor, Tensor]:
        return source.masked(chosen, source.draw("training", generators, chosen))

    image, mask, label = read()

    def step(compute: Callable = compute) -> None:
        with autocast:
            scores = compute(image, mask)
        optimiser.zero_grad()
        F.cross_entropy(scores[0].float(), label[0]).backward()
        optimiser.step()

    features = 0  # bytes

    def count(_, __, output) -> None:
        nonlocal features
        output = output[0] if isinstance(output, tuple) else output
        features += output.numel() * output.element_size()

    hooks = [layer.register_forward_hook(count) for layer in network.layers]
    with FlopCounterMode(display=False) as counter:
        step(lambda image, mask: network(image[0], mask[0]).unsqueeze(0))  # never compiled
    for hook in hooks:
        hook.remove()
    arithmetic, traffic = rates(device, precision)
    took = milliseconds(step, device, seconds=10)
    with profile() as profiled:
        for _ in range(PROFILED):
            step()
    kind = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
    # On CUDA a kernel's time is also that of the operation that launched it.
    where = DeviceType.CPU if device == "cpu" else DeviceType.CUDA
    events = [event for event in profiled.key_averages() if event.device_type == where]
    spent = pd.Series({event.key: getattr(event, kind) / 1000 / PROFILED for event in events})
    costliest = spent.nlargest(COSTLIEST)
    parts = [
        ("a step", took, 1),
        ("floor: arithmetic", operations := counter.get_total_flops() / arithmetic, operations / took),
        # Forward a map is written and read, backward it is read, and its gradient written and read.
        ("floor: traffic", maps := 5 * features / traffic, maps / took),
        ("a batch made ready, in a thread beside", ready := milliseconds(read, device), ready / took),
        # Of all operations' time, under the profiler.
        *zip(costliest.index, costliest, costliest / spent.sum(), strict=True),
    ]
    table = pd.DataFrame(parts, columns=["part", "milliseconds", "share"]).round({"milliseconds": 2, "share": 3})
    table.insert(0, "step", title)
    return table.assign(device=name_of(device, "1 thread"), torch=torch.__version__)


def main() -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    with exact_float32():  # as training has it
        tables = [measure(*case, device) for device in available_devices() for case in RUNS.items()]
    summary = pd.concat(tables, ignore_index=True)
    print(summary.to_string(index=False))
    with replacing(output_root() / "results/benchmarks_profile.csv") as file:
        summary.to_csv(file, index=False)


if __name__ == "__main__":
    main()
