"""What is done in another way than PyTorch's, compared with PyTorch's."""

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

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
