"""The epochs of a run, or of an ensemble of runs that take every step together.

Tensors have a leading axis of runs throughout, of length 1 where a network trains alone.
"""

import copy
import functools
import math
from collections.abc import Callable
from functools import partial

import pandas as pd
import torch
from torch import Tensor, nn

from ..data.datasets import split
from ..data.images import Images
from ..experiment import ADAPTED, MNIST, Experiment, check_experiment, selection, task_of
from ..models import Network, build
from ..records import reported_row
from .adaptation import adapted
from .batches import ORDER, TEST_MASKS, TRAIN_MASKS, VALIDATION_MASKS, WEIGHTS, EnsembleBatches, generator_of, seed_of
from .devices import release_freed_memory
from .ensembles import Ensemble
from .evaluation import Masks, tallies, transfer
from .objectives import objective_of
from .resuming import Sitting

__all__ = ["Told", "initial_network", "networks_of", "run_epochs"]

# Called with a run's place among those that train together, the epoch it has finished, and that epoch's training loss
# and its task's first metric, accuracy in percent or the mean absolute error in metres.
Told = Callable[[int, int, float, float], None]


def initial_network(experiment: Experiment) -> Network:
    """The network as the run starts with it, on the CPU."""
    check_experiment(experiment)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed CUDA's generators too.
        torch.default_generator.manual_seed(seed_of(experiment, WEIGHTS))
        return build(experiment.model, experiment.architecture)


def run_epochs(
    experiments: list[Experiment],
    data: Images,
    device: torch.device,
    precision: str,
    progress: Told | None,
    sitting: Sitting,
    compiled: bool = False,
) -> tuple[list[list[dict]], nn.Module]:
    """What every run measured at each epoch, and the network, or their ensemble, as it is after the last one.

    The experiments are those that an ensemble may hold (see ensembles.ensembles_of), or one of any kind.
    ``compiled`` is for a lone network.
    """
    first, runs = experiments[0], len(experiments)
    task, objective = task_of(first.dataset), objective_of(first.dataset, len(data.classes))
    metric, loss_of = task.metrics[0], objective.losses[first.loss]
    train, validation, test = split(data, first.validation, first.split, first.split_seed)
    if 0 < (few := first.train_images) < len(train):
        train = train[torch.arange(few) * len(train) // few]
    network, compute = networks_of(experiments, device, compiled)
    optimiser = getattr(torch.optim, first.optimiser)(
        network.parameters(), lr=first.learning_rate, weight_decay=first.weight_decay, fused=True
    )
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    source = EnsembleBatches(data, experiments, device)
    orders, holes = ([generator_of(run, stream) for run in experiments] for stream in (ORDER, TRAIN_MASKS))
    training_masks = partial(source.draw, "training", holes)

    # What training and evaluation leave free in pieces adds up to gigabytes where images are large; else to have it
    # back costs more time than it is worth.
    release = release_freed_memory if first.dataset not in MNIST else lambda: None

    def measure(
        images: Tensor, masks: Masks, compute: Callable[[Tensor, Tensor], Tensor] = compute
    ) -> list[list[float]]:
        release()
        network.eval()
        return tallies(compute, autocast, source, images, masks, objective.tally)

    def masks_of_epoch(use: str, stream: int) -> Masks:
        return partial(source.draw, use, [generator_of(run, stream, epoch) for run in experiments])

    histories, chosen = [[] for _ in experiments], None
    # Those that outlive an epoch; dropout has torch's own. Masks are drawn ahead of the network, but within an epoch.
    generators = [*orders, *holes, torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[torch.cuda.current_device()])

    def state() -> dict:
        return {
            "histories": histories,
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "generators": [generator.get_state() for generator in generators],
            "chosen": chosen,
        }

    if saved := sitting.take_up():
        histories, chosen = saved["histories"], saved["chosen"]
        if chosen is not None:
            chosen = {name: value.to(device) for name, value in chosen.items()}
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        for generator, reached in zip(generators, saved["generators"], strict=True):
            generator.set_state(reached)
        _tell(progress, metric, histories)
    for epoch in range(len(histories[0]) + 1, first.epochs + 1):
        release()
        network.train()
        for group in optimiser.param_groups:
            group["lr"] = _learning_rate(first, epoch)
        shuffled = torch.stack([train[torch.randperm(len(train), generator=order)] for order in orders]).to(device)
        loss_sum, score_sum = torch.zeros(runs, device=device), torch.zeros(runs, device=device)
        for image, mask, label in source.ahead(shuffled.split(first.batch_size, dim=1), training_masks):
            with autocast:
                output = compute(image, mask)
            loss = loss_of(output, label).mean(dim=1)
            optimiser.zero_grad()
            loss.sum().backward()
            optimiser.step()
            loss_sum += loss.detach() * label.shape[1]
            score_sum += objective.score(output.detach(), label, mask).sum(dim=1)
        of_test = measure(test, masks_of_epoch("own", TEST_MASKS))
        of_validation = measure(validation, masks_of_epoch("training", VALIDATION_MASKS))
        measured = zip(histories, loss_sum.tolist(), score_sum.tolist(), of_validation, of_test, strict=True)
        for history, loss_of_run, score_of_run, on_validation, on_test in measured:
            tested = zip(task.metrics, objective.means(on_test, len(test)), strict=True)
            history.append(
                {
                    "epoch": epoch,
                    "train_loss": round(loss_of_run / len(train), 6),
                    f"train_{metric}": round(task.scale * score_of_run / len(train), 4),
                    f"validation_{metric}": objective.means(on_validation, len(validation))[0],
                    **{f"test_{name}": value for name, value in tested},
                    "test_correct": objective.details(on_test),
                    "transfer": "",
                }
            )
        if first.tested_at != "own sparsity":
            best = [_reported_epoch(first, history) == epoch for history in histories]
            chosen = _keep(network.state_dict(), best, chosen)
        try:
            _tell(progress, metric, histories)
        except BaseException:  # whoever ends a run here goes on here
            sitting.save(state())
            raise
        if sitting.is_due():
            sitting.save(state())
    if first.tested_at != "own sparsity":
        last = copy.deepcopy(network.state_dict())
        network.load_state_dict(chosen)
        elsewhere = transfer(experiments, lambda masks: measure(test, masks), test, source)
        if first.tested_at == ADAPTED:
            of_test = functools.partial(measure, test)
            elsewhere[0] |= adapted(first, network, compute, autocast, of_test, source, train, test)
        network.load_state_dict(last)
        for history, of_run in zip(histories, elsewhere, strict=True):
            history[_reported_epoch(first, history) - 1]["transfer"] = " ".join(
                f"{kind}:{level:g}={'/'.join(map(str, objective.means(found, len(test))))}"
                for (kind, level), found in of_run.items()
            )
    return histories, network


def networks_of(
    experiments: list[Experiment], device: torch.device, compiled: bool = False
) -> tuple[nn.Module, Callable]:
    """The network, or the ensemble of networks, with its initial weights, and what computes its scores."""
    if len(experiments) > 1:
        ensemble = Ensemble([initial_network(run) for run in experiments]).to(device)
        return ensemble, ensemble
    (run,) = experiments
    if compiled:
        network, alone = _compiled(run.model, run.architecture, device)
        network.load_state_dict(initial_network(run).state_dict())
    else:
        network = alone = initial_network(run).to(device, memory_format=torch.channels_last)
    return network, lambda image, mask: alone(image[0], mask[0]).unsqueeze(0)


@functools.cache
def _compiled(model: str, architecture: str, device: torch.device) -> tuple[Network, nn.Module]:
    """A network of that kind and its compiled form, for every run that this process trains: compiling takes longer than
    a run. For fixed shapes, of which there are three: whole batches and the last in training, batches in evaluation."""
    torch._dynamo.config.recompile_limit = 64  # beyond it, it stops compiling without a word
    network = build(model, architecture).to(device, memory_format=torch.channels_last)
    return network, torch.compile(network, dynamic=False)


def _keep(state: dict, best: list[bool], kept: dict | None) -> dict | None:
    """``kept``, with ``state`` for those runs whose epoch was the best so far."""
    if all(best):  # which is how a lone run's state, without an axis of runs, is kept
        return copy.deepcopy(state)
    for name, value in state.items() if any(best) else ():
        kept[name][best] = value[best]
    return kept


def _learning_rate(experiment: Experiment, epoch: int) -> float:
    """In an epoch, counted from 1."""
    share = 1.0
    if experiment.schedule == "cosine":
        share = (1 + math.cos(math.pi * (epoch - 1) / experiment.epochs)) / 2
    return share * experiment.learning_rate


def _tell(progress: Told | None, metric: str, histories: list[list[dict]]) -> None:
    for i, history in enumerate(histories if progress else ()):
        progress(i, *(history[-1][name] for name in ("epoch", "train_loss", f"train_{metric}")))


def _reported_epoch(experiment: Experiment, history: list[dict]) -> int:
    """The number of the epoch that a run of this history reports."""
    rule = selection(experiment.dataset, experiment.protocol)
    return 1 + reported_row(pd.DataFrame(history), rule, task_of(experiment.dataset))
