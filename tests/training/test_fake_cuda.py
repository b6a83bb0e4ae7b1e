"""What CUDA would run, traced without one: fake tensors on "cuda" know shapes, dtypes and devices, and hold no numbers.

Forward alone: a backward pass asks for a driver.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from sparsecnn.experiment import MODELS
from sparsecnn.layers import arithmetic
from sparsecnn.layers.counting import _window_sum
from sparsecnn.models import NETWORKS, build
from sparsecnn.training.ensembles import Ensemble

DIGITS = [*((model, "mnist") for model in MODELS), ("ConvNet", "mnist_convnet_as_run")]


@pytest.fixture(autouse=True)
def fake():
    torch._dynamo.reset()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        yield


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("model", NETWORKS)
@pytest.mark.parametrize("architecture", ["caltech", "caltech_pooled_mask", "caltech_convnet_as_run"])
def test_networks_on_cuda(model, architecture, compiled):
    with torch.device("cuda"):
        network = build(model, architecture)
    run = torch.compile(network, backend="eager", fullgraph=True, dynamic=False) if compiled else network
    image = torch.rand(8, 3, 224, 224, device="cuda").contiguous(memory_format=torch.channels_last)
    scores = run(image, torch.rand(8, 1, 224, 224, device="cuda") > 0.5)
    assert scores.shape == (8, 101) and scores.device.type == "cuda"


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize("model", NETWORKS)
def test_caltechs_first_convolution_goes_by_blocks_in_bf16(model, bf16, monkeypatch):
    by_blocks = []

    def convolve_by_blocks(features, weight, bias=None, way=arithmetic.convolve_by_blocks):
        sums = way(features, weight, bias)
        assert sums.dtype == torch.bfloat16 and sums.is_contiguous(memory_format=torch.channels_last)
        by_blocks.append(weight.shape[2])
        return sums

    monkeypatch.setattr(arithmetic, "convolve_by_blocks", convolve_by_blocks)
    # Or autocast would find that no CUDA device is there.
    monkeypatch.setattr("torch.amp.autocast_mode.torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    with torch.device("cuda"):
        network = build(model, "caltech")
    first = network.layers[0]  # whose parameters, being fake, Module.to can't convert
    first.weight = torch.nn.Parameter(first.weight.contiguous(memory_format=torch.channels_last))
    image = torch.rand(8, 3, 224, 224, device="cuda").contiguous(memory_format=torch.channels_last)
    with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
        network(image, torch.rand(8, 1, 224, 224, device="cuda") > 0.5)
    ways = 2 if model == "normalised convolution" else 1  # it has a sum of weights to divide by, too
    assert by_blocks == [11] * ways * bf16


@pytest.mark.parametrize(("model", "architecture"), DIGITS)
def test_ensembles_on_cuda(model, architecture):
    with torch.device("cuda"):
        ensemble = Ensemble([build(model, architecture) for _ in range(4)])
    scores = ensemble(torch.rand(4, 16, 1, 28, 28, device="cuda"), torch.rand(4, 16, 1, 28, 28, device="cuda") > 0.5)
    assert scores.shape == (4, 16, 10) and scores.device.type == "cuda"


@pytest.mark.parametrize("kernel", [11, 3])  # whose counts are pieced together from several sums
def test_compiled_window_sums_are_those_of_eager(kernel, fake):
    def sums(observed: torch.Tensor) -> torch.Tensor:
        return _window_sum(observed.to(torch.uint8), (kernel, kernel), (1, 1), (1, 1))

    with torch._subclasses.fake_tensor.unset_fake_temporarily():
        observed = torch.rand(4, 1, 40, 40) > 0.5
        assert torch.equal(torch.compile(sums, dynamic=False)(observed), sums(observed))
