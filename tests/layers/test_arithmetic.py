"""What is done in another way than PyTorch's, compared with PyTorch's."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from sparsecnn.layers.arithmetic import by_blocks_is_faster, convolve_by_blocks


def inputs(channels, outputs, kernel, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (2, channels, height, width), (outputs, channels, kernel, kernel), (outputs,)
    features, weight, bias = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return features.to(memory_format=torch.channels_last), weight, bias


@given(
    channels=st.integers(1, 4),
    outputs=st.integers(1, 5),
    kernel=st.sampled_from([1, 3, 5, 7, 9, 11, 13]),
    height=st.sampled_from([2, 4, 10, 14]),
    width=st.sampled_from([2, 6, 12]),
    biased=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_convolution_by_blocks_is_the_convolution(channels, outputs, kernel, height, width, biased, seed):
    features, weight, bias = inputs(channels, outputs, kernel, height, width, seed)
    values = [features, weight, bias] if biased else [features, weight]
    values = [value.requires_grad_() for value in values]
    sums, expected = convolve_by_blocks(*values), F.conv2d(*values, padding="same")
    torch.testing.assert_close(sums, expected)
    assert sums.is_contiguous(memory_format=torch.channels_last)
    pull = torch.linspace(-1, 1, sums.numel(), dtype=torch.float64).view(sums.shape)
    found, wanted = (torch.autograd.grad(out, values, pull) for out in (sums, expected))
    torch.testing.assert_close(found, wanted)


def test_its_gradients_are_those_of_differences_twice_over():
    values = [value.requires_grad_() for value in inputs(2, 2, 3, 4, 2)]
    assert torch.autograd.gradcheck(convolve_by_blocks, values)
    assert torch.autograd.gradgradcheck(convolve_by_blocks, values)


def test_on_the_cpu_it_is_not_taken():
    features, weight, _ = inputs(3, 16, 11, 8, 8)
    assert not by_blocks_is_faster(features.bfloat16(), weight.bfloat16(), (1, 1), "same", (1, 1), 1)


def on_cuda(
    size=(2, 3, 224, 224), kernel=(11, 11), dtype=torch.bfloat16, layout=torch.channels_last,
    stride=(1, 1), padding="same", dilation=(1, 1), groups=1,
):  # fmt: skip
    """Whether such a convolution would be by blocks on a GPU, which is not needed to ask."""
    with FakeTensorMode():
        features = torch.empty(size, dtype=dtype, device="cuda", memory_format=layout)
        weight = torch.empty(16, size[1] // groups, *kernel, dtype=dtype, device="cuda")
        return by_blocks_is_faster(features, weight, stride, padding, dilation, groups)


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"padding": (5, 5)}, {"kernel": (7, 7), "padding": (3, 3)}, {"size": (2, 4, 224, 224)},
        {"size": (2, 1, 12, 10)}, {"dtype": torch.float16},
    ],
    ids=str,
)  # fmt: skip
def test_on_cuda_few_channels_under_a_large_window_are_taken_by_blocks(changes):
    assert on_cuda(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"groups": 3}, {"stride": (1, 2)}, {"stride": (2, 1)}, {"dilation": (1, 2)}, {"dilation": (2, 1)},
        {"padding": (5, 4)}, {"padding": (4, 4)}, {"padding": (0, 0)}, {"padding": (6, 6)}, {"kernel": (10, 10)},
        {"kernel": (11, 9)}, {"kernel": (9, 11)}, {"kernel": (5, 5)}, {"size": (2, 5, 224, 224)},
        {"size": (2, 3, 223, 224)}, {"size": (2, 3, 224, 223)}, {"size": (2, 3, 223, 223)}, {"dtype": torch.float32},
        {"layout": torch.contiguous_format},
    ],
    ids=str,
)  # fmt: skip
def test_what_it_can_not_do_or_not_faster_is_not(changes):
    assert not on_cuda(**changes)


def test_under_autocast_its_type_counts(monkeypatch):
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind == "cuda")
    for dtype in (torch.bfloat16, torch.float32):
        monkeypatch.setattr(torch, "get_autocast_dtype", {"cuda": dtype}.get)
        assert on_cuda(dtype=torch.float32) == (dtype == torch.bfloat16)
