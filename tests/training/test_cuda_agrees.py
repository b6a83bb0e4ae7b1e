"""Runs on CUDA against those on the CPU; and on the CPU, that their tolerances let rounding pass and a fault not."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from sparsecnn.data.sources import CALTECH_MD5
from sparsecnn.experiment import MODELS, Experiment, experiment
from sparsecnn.training import loop
from sparsecnn.training.devices import computes_in_bf16
from sparsecnn.training.train import train

# Of the training loss, in float32. Weights changed by a millionth move it by at most 0.0002 on digits and 0.0005 on
# drawings, 35% of pixels missing instead of 30% by at least 0.03 and 0.008.
TOLERANCE = {"mnist": 0.002, "caltech101": 0.003}
TOLERANCE_IN_BF16 = 0.01


def on_digits(model: str) -> Experiment:
    """SparseConvNet with a first convolution that starts larger: as the report has it, it learns nothing in so few
    steps, and whatever it computes its loss stays."""
    architecture = "mnist_rescaled" if model == "SparseConvNet" else "mnist"
    return experiment("mnist", "as_reported", model, 0.3, epochs=4, learning_rate=1e-3, architecture=architecture)


def on_drawings(model: str) -> Experiment:
    """Without dropout, whose random numbers are each device's own, in steps at which rounding does not grow. In so few
    steps photographs would tell masks apart hardly better than rounding."""
    changes = {"validation": 10, "train_images": 32, "batch_size": 8, "epochs": 2, "learning_rate": 2e-4}
    return experiment("caltech101", "controlled", model, 0.3, architecture="caltech_no_dropout", **changes)


def agree(here: pd.DataFrame, there: pd.DataFrame) -> bool:
    """Whether two runs are the same but for rounding, runs that learn enough to tell."""
    assert here["train_loss"].iloc[-1] < 0.8 * here["train_loss"].iloc[0]
    exact = {*here["precision"], *there["precision"]} == {"float32"}
    tolerance = TOLERANCE[here["dataset"][0]] if exact else TOLERANCE_IN_BF16
    return np.allclose(there["train_loss"], here["train_loss"], rtol=tolerance, atol=0)


@pytest.fixture
def rounding(monkeypatch) -> None:
    def build(run: Experiment, build=loop.initial_network) -> torch.nn.Module:
        network, generator = build(run), torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter *= 1 + 1e-6 * torch.randn(parameter.shape, generator=generator)
        return network

    monkeypatch.setattr("sparsecnn.training.loop.initial_network", build)


@pytest.mark.parametrize("model", MODELS)
def test_on_digits_rounding_is_tolerated_and_a_fault_is_not(model, digits, request):
    run = on_digits(model)
    rows = train(run, "cpu")
    assert not agree(rows, train(replace(run, sparsity=0.35), "cpu"))
    request.getfixturevalue("rounding")
    assert agree(rows, train(run, "cpu"))


def test_on_drawings_rounding_is_tolerated_and_a_fault_is_not(drawings, request):
    run = on_drawings("SparseConvNet")
    rows = train(run, "cpu", precision="float32")
    assert not agree(rows, train(replace(run, sparsity=0.35), "cpu", precision="float32"))
    if computes_in_bf16(torch.device("cpu")):  # else it imitates it, for a minute
        assert agree(rows, train(run, "cpu", precision="bf16"))
    request.getfixturevalue("rounding")
    assert agree(rows, train(run, "cpu", precision="float32"))


@pytest.mark.cuda
@pytest.mark.parametrize("model", MODELS)
def test_cuda_and_cpu_agree(model, digits):
    cpu, cuda = (train(on_digits(model), device) for device in ("cpu", "cuda"))
    assert agree(cpu, cuda)
    np.testing.assert_allclose(cuda["test_accuracy"], cpu["test_accuracy"], atol=2)


@pytest.mark.cuda
@pytest.mark.parametrize("model", MODELS)
def test_cuda_and_cpu_agree_on_caltech(model, drawings):
    run = on_drawings(model)
    cpu, cuda = (train(run, device, precision="float32") for device in ("cpu", "cuda"))
    assert agree(cpu, cuda)
    fast = train(run, "cuda", compiled=model == MODELS[0])  # one of them: that takes half a minute
    assert set(fast["precision"]) == {"bf16"} and fast["device"].str.endswith("compiled").all() == (model == MODELS[0])
    assert agree(cpu, fast)


def test_half_of_the_photographs_is_no_data_set(monkeypatch, tmp_path, request):
    monkeypatch.setenv("SPARSECNN_DATA", str(tmp_path))
    names = [line.split()[1] for line in CALTECH_MD5.read_text().splitlines()]
    for name in names[: len(names) // 2]:
        file = tmp_path / "caltech101/101_ObjectCategories" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert request.getfixturevalue("photographs").name == "shapes"
