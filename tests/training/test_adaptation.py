"""What is done about another sparsity after training: by hand, without labels, and without a trace in the network."""

import copy
import dataclasses
from contextlib import nullcontext

import pandas as pd
import pytest
import torch
from torch import nn

from sparsecnn.experiment import ADAPTED, experiment
from sparsecnn.records import read_rows
from sparsecnn.sweeps import store
from sparsecnn.training import adaptation
from sparsecnn.training.adaptation import adapted
from sparsecnn.training.batches import ADAPTATION_MASKS, EnsembleBatches
from sparsecnn.training.evaluation import masks_under
from sparsecnn.training.loop import _alone, initial_network
from sparsecnn.training.train import train

CONDITIONS = (("random", 0.3), ("random", 0.7), ("square", 0.5))
RUN = experiment("shapes", "controlled", "ConvNet", 0.3)
TRAIN, TEST = torch.arange(0, 60, 3), torch.arange(1, 40, 5)
IMAGES, BATCH = adaptation.IMAGES, adaptation.BATCH


@pytest.fixture(autouse=True)
def few(monkeypatch):
    for module in ("adaptation", "evaluation"):
        monkeypatch.setattr(f"sparsecnn.training.{module}.conditions_of", lambda dataset: iter(CONDITIONS))
    monkeypatch.setattr(adaptation, "IMAGES", (1, 6))
    monkeypatch.setattr(adaptation, "BATCH", 4)


def norms_of(network):
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]


def test_statistics_are_those_of_the_images_and_nothing_stays(drawings):
    source = EnsembleBatches(drawings, [RUN], torch.device("cpu"))
    network = initial_network(RUN).eval()
    norms = norms_of(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    momenta, seen = [norm.momentum for norm in norms], []

    def measure(masks, compute):
        image, mask, _ = source.masked(TEST[None], masks(TEST[None]))
        statistics = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
        seen.append((statistics, mask, compute(image, mask).detach(), image))
        assert not any(module.training for module in network.modules())
        return [len(seen) - 1]

    found = adapted(RUN, network, _alone(network), nullcontext(), measure, source, TRAIN, TEST)
    ways = ("rescaled", "reestimated_1", "reestimated_6", "reestimated_test")
    expected = [(f"random_{way}", level) for level in (0.3, 0.7) for way in ways]
    assert list(found) == [*expected, ("square_rescaled", 0.5), ("square_reestimated_6", 0.5)]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [norm.momentum for norm in norms] == momenta

    for (name, level), number in found.items():
        kind, way = name.split("_", 1)
        statistics, mask, scores, image = seen[number]
        # Whatever is done, the test is the same.
        assert torch.equal(mask, masks_under([RUN], kind, level, TEST, source)(TEST[None]))
        if way == "rescaled":
            assert torch.equal(statistics[0][0], before["layers.1.running_mean"])
            with torch.no_grad():
                torch.testing.assert_close(scores[0], network(image[0] * 0.7 / (1 - level), mask[0]))
            continue
        count = {"reestimated_1": 1, "reestimated_6": 6}.get(way)
        chosen = TEST if count is None else TRAIN[torch.arange(count) * len(TRAIN) // count]
        stream = {} if count is None else {"stream": ADAPTATION_MASKS}
        masks = masks_under([RUN], kind, level, chosen, source, **stream)
        inputs = []
        hooks = [
            norm.register_forward_pre_hook(lambda _, given, to=inputs: to.append(given[0].double())) for norm in norms
        ]
        for norm in norms:
            norm.train()
        size = {1: 1, 6: 3, 8: 4}[len(chosen)]  # as many batches as they need, of one size
        with torch.no_grad():
            for part in chosen.split(size):
                network(*(each[0] for each in source.masked(part[None], masks(part[None]))[:2]))
        network.load_state_dict(before)
        network.eval()
        for hook in hooks:
            hook.remove()
        for i, (mean, variance) in enumerate(statistics):
            of_batches = [features.transpose(0, 1).flatten(1) for features in inputs[i :: len(norms)]]
            assert len(of_batches) == len(chosen) // size
            means = torch.stack([features.mean(1) for features in of_batches]).mean(0)
            variances = torch.stack([features.var(1) for features in of_batches]).mean(0)
            # PyTorch sums up in float32.
            torch.testing.assert_close((mean.double(), variance.double()), (means, variances), rtol=1e-3, atol=5e-4)


def test_statistics_are_what_pytorchs_own_step_gives_which_the_report_names(drawings):
    source = EnsembleBatches(drawings, [RUN], torch.device("cpu"))
    ours = initial_network(RUN)
    theirs = copy.deepcopy(ours)
    masks = masks_under([RUN], "random", 0.7, TEST, source)
    adaptation._reestimate(ours, norms_of(ours), _alone(ours), nullcontext(), source, TEST, masks)
    batches = [source.masked(part[None], masks(part[None])) for part in TEST.split(adaptation.BATCH)]

    class Alone(nn.Module):  # of an image alone, as update_bn has it
        def __init__(self):
            super().__init__()
            self.network = theirs

        def forward(self, image):
            return self.network(image, image[:, :1] != 0)

    torch.optim.swa_utils.update_bn([image[0] for image, _, _ in batches], Alone())
    for norm, expected in zip(norms_of(ours), norms_of(theirs), strict=True):
        torch.testing.assert_close(norm.running_mean, expected.running_mean)
        torch.testing.assert_close(norm.running_var, expected.running_var)


def test_labels_play_no_part(drawings):
    network, answers = initial_network(RUN).eval(), []
    for labels in (drawings.labels, torch.zeros_like(drawings.labels)):
        source = EnsembleBatches(dataclasses.replace(drawings, labels=labels), [RUN], torch.device("cpu"))

        def measure(masks, compute, source=source):
            image, mask, _ = source.masked(TEST[None], masks(TEST[None]))
            with torch.no_grad():
                return [compute(image, mask)]

        found = adapted(RUN, network, _alone(network), nullcontext(), measure, source, TRAIN, TEST)
        answers.append(torch.stack(list(found.values())))
    assert torch.equal(*answers) and len(answers[0].flatten(1).unique(dim=0)) > 5


@pytest.mark.parametrize("model", ["ConvNet", "SparseConvNet"])
def test_a_run_has_it_in_its_row_which_is_stored_and_read_back(drawings, model, tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(tmp_path))
    run = experiment(
        "shapes", "controlled", model, 0.3, validation=10, train_images=8, batch_size=8, epochs=1, tested_at=ADAPTED
    )
    rows = train(run, "cpu")
    plain = train(dataclasses.replace(run, tested_at="every sparsity"), "cpu")
    aside = ["tested_at", "transfer", "seconds"]
    pd.testing.assert_frame_equal(rows.drop(columns=aside), plain.drop(columns=aside))
    assert rows["transfer"].item().startswith(plain["transfer"].item() + " random_rescaled:0.3=")
    assert [entry.split("=")[0] for entry in rows["transfer"].item().split()] == [
        "random:0.7", "square:0.5",
        *(f"random_{way}:{level}" for level in (0.3, 0.7)
          for way in ("rescaled", "reestimated_1", "reestimated_6", "reestimated_test")),
        "square_rescaled:0.5", "square_reestimated_6:0.5",
    ]  # fmt: skip
    assert store.store(rows)
    (path,) = store.runs_folder().glob("*.csv")
    assert read_rows(path)["transfer"].tolist() == rows["transfer"].tolist()
    assert len(store.of_experiments([run])) == 1


def test_a_network_without_batch_norm_is_rescaled_alone():
    run = experiment("digits", "controlled", "ConvNet", 0.3, epochs=1, train_images=50, fill="mean", tested_at=ADAPTED)
    found = train(run, "cpu")["transfer"].item().split()
    kinds = [entry.split("=")[0] for entry in found]
    assert kinds[2:] == ["random_rescaled:0.3", "random_rescaled:0.7", "square_rescaled:0.5"]


def test_rows_name_the_numbers_of_images():
    assert IMAGES == (1, 32, 460)
    assert list(adaptation.WAYS[1:-1]) == [f"reestimated_{count}" for count in IMAGES]


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(1, [1]), (32, [32]), (128, [128]), (129, [65, 64]), (460, [115] * 4), (1735, [124] * 13 + [123])],
)
def test_statistics_are_of_as_few_batches_as_128_at_most_allow_of_about_one_size(count, sizes, monkeypatch):
    monkeypatch.setattr(adaptation, "BATCH", BATCH)
    found = []

    class Source:
        device = torch.device("cpu")

        def ahead(self, batches, masks):
            found.extend(batches)
            return ()

    adaptation._reestimate(nn.Sequential(), [], None, nullcontext(), Source(), torch.arange(count), None)
    assert [tuple(batch.shape) for batch in found] == [(1, size) for size in sizes]
    assert torch.equal(torch.cat(found, dim=1)[0], torch.arange(count))
