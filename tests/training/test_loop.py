"""What an epoch's numbers are made of: every image once, a batch's loss by its images, new masks each time."""

from collections import defaultdict
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F

from sparsecnn.data.datasets import load, split
from sparsecnn.data.images import MNIST_SCALE, Images
from sparsecnn.experiment import experiment
from sparsecnn.training.batches import EnsembleBatches
from sparsecnn.training.evaluation import conditions_of, tallies, transfer
from sparsecnn.training.loop import _keep, _reported_epoch, initial_network
from sparsecnn.training.objectives import objective_of
from sparsecnn.training.train import train

WHOLE = {"epochs": 1, "learning_rate": 1e-30}  # steps that change no weight


@pytest.mark.parametrize("count", [1, 499, 500, 501, 730])  # in batches of 500, the last one filled up
def test_an_evaluation_counts_every_image_once(count):
    labels = torch.arange(count) % 10
    images = (25 * labels).to(torch.uint8)[:, None, None, None].expand(-1, 1, 28, 28)
    data = Images("digits", images, labels, tuple("0123456789"), test_count=count, **MNIST_SCALE)
    source = EnsembleBatches(data, [experiment("digits", "controlled", "ConvNet", 0.0)], torch.device("cpu"))

    def right(image, mask):
        """The scores of who sees the label in the brightness."""
        brightness = image.mean(dim=(2, 3, 4)) * MNIST_SCALE["std"][0] + MNIST_SCALE["mean"][0]
        return F.one_hot((255 / 25 * brightness).round().long(), 10).float()

    def all_observed(chosen):
        return torch.ones(*chosen.shape, 1, 28, 28, dtype=torch.bool)

    tally = objective_of("digits", 10).tally
    found = tallies(right, nullcontext(), source, torch.arange(count), all_observed, tally)
    assert found == [labels.bincount(minlength=10).tolist()]


@pytest.mark.parametrize("batch_size", [64, 100, 7])
def test_the_training_loss_is_the_mean_over_images_whatever_the_last_batch_holds(batch_size):
    run = experiment("digits", "controlled", "ConvNet", 0.0, batch_size=batch_size, train_images=100, **WHOLE)
    (row,) = train(run, "cpu").to_dict("records")
    data = load("digits")
    chosen = split(data, run.validation, run.split)[0]
    chosen = chosen[torch.arange(100) * len(chosen) // 100]
    image = (data.images[chosen] / 255 - data.mean[0]) / data.std[0]
    with torch.no_grad():
        scores = initial_network(run)(image, torch.ones_like(image, dtype=torch.bool))
    assert row["train_loss"] == pytest.approx(float(F.cross_entropy(scores, data.labels[chosen])), abs=2e-5)
    assert row["train_accuracy"] == pytest.approx(100 * float((scores.argmax(1) == data.labels[chosen]).float().mean()))


def test_every_epoch_validates_and_tests_under_masks_of_its_own(monkeypatch):
    drawn = defaultdict(list)

    def draw(self, use, masks, chosen, draw=EnsembleBatches.draw):
        mask = draw(self, use, masks, chosen)
        drawn[tuple(chosen.flatten().tolist())].append(mask)
        return mask

    monkeypatch.setattr(EnsembleBatches, "draw", draw)
    train(experiment("digits", "controlled", "ConvNet", 0.5, epochs=3, train_images=20), "cpu")
    several = [masks for masks in drawn.values() if len(masks) > 1]  # training's batches are never the same twice
    assert [len(masks) for masks in several] == [3, 3]  # test and validation images
    for first, second, third in several:
        assert not (torch.equal(first, second) or torch.equal(second, third) or torch.equal(first, third))


def test_a_network_is_tested_elsewhere_under_every_mask_but_its_own():
    runs = [
        experiment("digits", "controlled", "ConvNet", level, seed) for level, seed in ((0.0, 0), (0.5, 0), (0.5, 1))
    ]
    count = 300  # masks are drawn in parts of 256
    labels = torch.arange(count) % 10
    data = Images(
        "digits", torch.zeros(count, 1, 28, 28, dtype=torch.uint8), labels, tuple("0123456789"), **MNIST_SCALE
    )
    test, drawn = torch.arange(0, count, 2), []

    def missing_pixels(masks):
        drawn.append(masks(test.flip(0).repeat(len(runs), 1)))
        return (~drawn[-1]).sum(dim=(1, 2, 3, 4)).tolist()

    found = transfer(runs, missing_pixels, test, EnsembleBatches(data, runs, torch.device("cpu")))
    conditions = list(conditions_of("digits"))
    assert conditions[12:] == [("square", 0.3), ("square", 0.5), ("rows", 0.3), ("rows", 0.5)]
    for run, of_run in zip(runs, found, strict=True):
        assert list(of_run) == [condition for condition in conditions if condition != ("random", run.sparsity)]
    exactly = {
        "random": lambda level: int(784 * level),
        "square": lambda level: round(28 * level**0.5) ** 2,
        "rows": lambda level: 28 * round(28 * level),
    }
    for (kind, level), missing in found[0].items():
        assert missing == len(test) * exactly[kind](level)
    assert len(drawn) == len(conditions)
    for masks in drawn[1:]:  # of whole images there is one mask
        assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[1], masks[2])  # by the seed alone
        assert len(masks[0].flatten(1).unique(dim=0)) > 20


def test_of_networks_that_train_together_each_keeps_its_own_best_epoch():
    kept = _keep({"weight": torch.tensor([1.0, 2.0])}, [True, True], None)
    kept = _keep({"weight": torch.tensor([3.0, 4.0])}, [False, True], kept)
    kept = _keep({"weight": torch.tensor([5.0, 6.0])}, [False, False], kept)
    assert kept["weight"].tolist() == [1.0, 4.0]


def test_progress_is_told_of_the_epoch_that_has_ended():
    told = []
    run = experiment("digits", "controlled", "ConvNet", 0.5, epochs=2, train_images=20)
    rows = train(run, "cpu", lambda *seen: told.append(seen))
    assert told == [tuple(row) for row in rows[["epoch", "train_loss", "train_accuracy"]].to_numpy()]


def test_a_run_reports_the_epoch_of_the_best_validation_accuracy_and_percents_of_four_decimals():
    history = [{"epoch": epoch, "validation_accuracy": value} for epoch, value in ((1, 50.0), (2, 70.0), (3, 70.0))]
    assert _reported_epoch(experiment("digits", "controlled", "ConvNet", 0.5), history) == 2
    assert _reported_epoch(experiment("digits", "as_reported", "ConvNet", 0.5), history) == 3
    assert objective_of("digits", 2).means([1, 0], 3) == [33.3333]
