"""The trained networks that come with the package."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from sparsecnn import load_pretrained
from sparsecnn.checks import SettingError
from sparsecnn.data.datasets import available, load, split
from sparsecnn.data.images import MNIST_SCALE
from sparsecnn.data.masks import bernoulli_mask, exact_count_mask
from sparsecnn.experiment import LEVELS, MODELS, Experiment, experiment
from sparsecnn.models import build
from sparsecnn.sweeps.store import of_experiments
from sparsecnn.training import pretrained
from sparsecnn.training.objectives import objective_of


def metadata(run):
    with safe_open(pretrained.WEIGHTS / pretrained._name(run), "pt") as file:
        return file.metadata()


def test_there_are_nine_of_recorded_runs_each_under_half_a_megabyte():
    runs = pretrained.experiments()
    kinds = [("mnist", trained_at) for trained_at in LEVELS] + [("kitti_range", "own sparsity")]
    assert {(run.dataset, run.trained_at, run.model) for run in runs} == {
        (*kind, model) for kind in kinds for model in MODELS
    }
    assert {path.name for path in pretrained.WEIGHTS.iterdir()} == {pretrained._name(run) for run in runs}
    for run in runs:
        metric, near = {"mnist": ("test_accuracy", 1.5), "kitti_range": ("test_mae", 0.05)}[run.dataset]
        level = {"mnist": 0.5, "kitti_range": 0.8}[run.dataset]
        assert (run.protocol, run.sparsity, run.seed) == ("controlled", level, 0)
        assert Experiment(**json.loads(metadata(run)["experiment"])) == run
        assert (pretrained.WEIGHTS / pretrained._name(run)).stat().st_size < 500_000
        # Trained on another machine than the recorded run, a network may differ by rounding and what becomes of it.
        recorded = of_experiments([run])[metric].iloc[-1]
        assert abs(float(metadata(run)[metric]) - recorded) < near


@pytest.mark.parametrize("trained_at", LEVELS)
@pytest.mark.parametrize("model", MODELS)
def test_they_know_digits_as_well_as_their_files_say(model, trained_at):
    if available("mnist") != "mnist":
        pytest.skip("MNIST is not at hand")
    network = load_pretrained("mnist", model, trained_at)
    assert not network.training
    data = load("mnist")
    count = 2000
    mask = exact_count_mask(count, 28, 28, 0.5, torch.Generator().manual_seed(0))
    images = torch.where(mask, data.images[-count:] / 255, 0)
    images = (images - MNIST_SCALE["mean"][0]) / MNIST_SCALE["std"][0]
    with torch.no_grad():
        accuracy = (network(images, mask).argmax(1) == data.labels[-count:]).double().mean().item()
    kind = ("mnist", model, trained_at)
    (run,) = (run for run in pretrained.experiments() if (run.dataset, run.model, run.trained_at) == kind)
    # The last images are easier than most; three standard errors are a point and a half.
    assert abs(100 * accuracy - float(metadata(run)["test_accuracy"])) < 4


@pytest.mark.parametrize("model", MODELS)
def test_they_complete_scans_as_well_as_their_files_say(model):
    if available("kitti_range") != "kitti_range":
        pytest.skip("KITTI's scans are not at hand")
    (run,) = (run for run in pretrained.experiments() if (run.dataset, run.model) == ("kitti_range", model))
    data = load("kitti_range")
    scans = data.images[split(data, run.validation, run.split)[2]]
    given = bernoulli_mask(len(scans), *scans.shape[2:], 0.8, torch.Generator().manual_seed(0)) & (scans > 0)
    network = load_pretrained("kitti_range", model)
    with torch.no_grad():
        answers = torch.cat(
            [network(scan[None] * seen[None], seen[None]) for scan, seen in zip(scans, given, strict=True)]
        )
    error = objective_of("kitti_range", 0).score(answers[None], scans[None], given[None]).mean().item()
    assert error == pytest.approx(float(metadata(run)["test_mae"]), abs=0.03)


def test_the_command_writes_what_it_trained_the_same_each_time(tmp_path):
    run = experiment("digits", "controlled", "ConvNet + mask", 0.5, epochs=1, train_images=8)
    (path,) = pretrained.write([run], tmp_path)
    first = load_file(path)
    (path,) = pretrained.write([run], tmp_path)
    again = load_file(path)
    assert list(first) == list(again) and all(torch.equal(again[name], first[name]) for name in first)
    assert list(tmp_path.iterdir()) == [path]
    assert path.name == "digits_ConvNet_mask_own_sparsity.safetensors"
    build(run.model, run.architecture).load_state_dict(load_file(path))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("caltech101", "ConvNet"), "dataset='caltech101'"),
        (("mnist", "sparse"), "model='sparse'"),
        (("mnist", "ConvNet", "all"), "trained_at='all'"),
        (("kitti_range", "ConvNet", "every sparsity"), "trained_at='every sparsity'"),
    ],
)
def test_another_name_is_refused_with_those_that_there_are(arguments, named):
    with pytest.raises(SettingError, match=f"^{named} is not allowed: one of "):
        load_pretrained(*arguments)
