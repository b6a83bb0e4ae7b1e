"""Pooling and batch norm under a mask: by hand over the observed places, and PyTorch's own where all are observed."""

import copy
import inspect
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import GARBAGE, random_mask
from torch import nn

from sparsecnn import layers

AXES = [1, 2, 3]


@pytest.mark.parametrize("kind", ["Max", "Avg", "AdaptiveAvg"])
def test_its_text_is_indented_alike_whether_or_not_python_does_so(kind):
    """Python 3.13 takes the indentation from docstrings; Sphinx refuses one that is indented in part."""
    lines = getattr(layers, f"Sparse{kind}Pool2d").__doc__.splitlines()
    assert "Raises:" in lines and lines[0] and not lines[1].startswith(" ")


@pytest.mark.parametrize("name", [name for name in dir(layers) if name.startswith("Sparse")])
def test_its_arguments_are_those_of_pytorchs_class_and_its_text_names_it(name):
    plain = name.removeprefix("Sparse")
    assert f":class:`torch.nn.{plain}`" in getattr(layers, name).__doc__
    theirs, ours = (inspect.signature(cls).parameters.values() for cls in (getattr(nn, plain), getattr(layers, name)))
    given = [(each.name, each.default) for each in theirs]
    assert [(each.name, each.default) for each in ours][: len(given)] == given


@pytest.mark.parametrize(
    ("dims", "words"),
    [
        (1, "a whole number of at least 1 or None"),
        (2, "a whole number of at least 1 or None, or 2 of them"),
        (3, "a whole number of at least 1 or None, or 3 of them"),
    ],
)
@pytest.mark.parametrize("size", [0, (1, 1, 1, 1), 1.5])
def test_a_bad_output_size_is_refused_with_what_is_allowed(dims, words, size):
    with pytest.raises(ValueError) as caught:
        getattr(layers, f"SparseAdaptiveAvgPool{dims}d")(size)
    assert str(caught.value) == f"output_size={size!r} is not allowed: {words}"


@st.composite
def pooled(draw, dims):
    """Features, mask, and the geometry of a pooling, a tuple an axis: kernel, stride, padding, dilation, ceil_mode."""
    some = lambda least, most: draw(st.tuples(*[st.integers(least, most)] * dims))  # noqa: E731
    kernel, stride, dilation = some(1, 3), some(1, 3), some(1, 2)
    padding = tuple(draw(st.integers(0, size // 2)) for size in kernel)
    size = [draw(st.integers(d * (k - 1) + 1, d * (k - 1) + 4)) for k, d in zip(kernel, dilation, strict=True)]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    count, channels = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    features = torch.randn(count, channels, *size, generator=generator, dtype=torch.float64)
    shape = (draw(st.sampled_from([1, count])), draw(st.sampled_from([1, channels])), *size)
    mask = random_mask(
        generator, shape, draw(st.sampled_from([0, 0.3, 0.7, 1])), draw(st.sampled_from([torch.bool, torch.float32]))
    )
    features = torch.where(mask != 0, features, draw(st.sampled_from(GARBAGE)))
    return features, mask, kernel, stride, padding, dilation, draw(st.booleans())


def windows(tensor, places, kernel, stride, padding, dilation):
    """Of every place what its window holds of the image itself, and how many of its pixels lie in the padding."""
    size = tensor.shape[2:]
    for place in np.ndindex(*places):
        starts = [p * s - around for p, s, around in zip(place, stride, padding, strict=True)]
        taps = [range(a, a + d * k, d) for a, d, k in zip(starts, dilation, kernel, strict=True)]
        # In ceil_mode a window may reach beyond the padding, and what it finds there counts for nothing.
        taps = [[i for i in axis if i < n + around] for axis, n, around in zip(taps, size, padding, strict=True)]
        pixels = list(itertools.product(*taps))
        inside = [pixel for pixel in pixels if all(0 <= i < n for i, n in zip(pixel, size, strict=True))]
        yield place, torch.stack([tensor[(..., *pixel)] for pixel in inside], -1), len(pixels) - len(inside)


@pytest.mark.parametrize("dims", AXES)
@given(data=st.data())
@settings(max_examples=30)
def test_max_pooling_takes_the_largest_observed_pixel(dims, data):
    features, mask, *geometry, ceil_mode = data.draw(pooled(dims))
    pool = getattr(layers, f"SparseMaxPool{dims}d")(*geometry, ceil_mode=ceil_mode)
    out, seen = pool(features, mask)
    plain = getattr(nn, f"MaxPool{dims}d")(*geometry, ceil_mode=ceil_mode)
    assert out.shape == plain(features).shape and out.dtype == features.dtype and seen.dtype == mask.dtype
    hidden = torch.where(mask != 0, features, -torch.inf)
    for place, window, _ in windows(hidden, out.shape[2:], *geometry):
        largest = window.amax(-1)
        assert torch.equal(out[(..., *place)], torch.where(largest.isfinite(), largest, 0))
        assert torch.equal(seen[(..., *place)].expand_as(largest) != 0, largest.isfinite())
    full = torch.randn_like(features)
    for observed in (torch.ones_like(mask), None):
        assert torch.equal(pool(full, observed)[0], plain(full))


@pytest.mark.parametrize("dims", AXES)
def test_a_dilated_window_that_lies_in_the_padding_holds_0_and_saw_nothing(dims):
    pool = getattr(layers, f"SparseMaxPool{dims}d")(2, padding=1, dilation=2)
    for mask in (torch.ones(1, 1, *[1] * dims), None):
        out, seen = pool(torch.ones(1, 1, *[1] * dims), mask)
        assert out.flatten().tolist() == [0] and not seen.any()


@pytest.mark.parametrize("dims", AXES)
@given(data=st.data())
@settings(max_examples=30)
def test_average_pooling_takes_the_mean_of_the_observed_pixels(dims, data):
    features, mask, kernel, stride, padding, _, ceil_mode = data.draw(pooled(dims))
    with_padding = data.draw(st.booleans())
    given = {"ceil_mode": ceil_mode, "count_include_pad": with_padding}
    pool = getattr(layers, f"SparseAvgPool{dims}d")(kernel, stride, padding, **given)
    out, seen = pool(features, mask)
    plain = getattr(nn, f"AvgPool{dims}d")(kernel, stride, padding, **given)
    assert out.shape == plain(features).shape and seen.dtype == mask.dtype
    kept, observed = torch.where(mask != 0, features, 0), (mask != 0).expand_as(features).double()
    geometry = (out.shape[2:], kernel, stride, padding, [1] * dims)
    for (place, window, beyond), (_, counted, _) in zip(
        windows(kept, *geometry), windows(observed, *geometry), strict=True
    ):
        count = counted.sum(-1) + beyond * with_padding
        wanted = window.sum(-1) / count.clamp(min=1)
        torch.testing.assert_close(out[(..., *place)], wanted, rtol=1e-12, atol=1e-12)
        assert torch.equal(seen[(..., *place)].expand_as(count) != 0, count > 0)
    full = torch.randn_like(features)
    for observed in (torch.ones_like(mask), None):
        torch.testing.assert_close(pool(full, observed)[0], plain(full))


@pytest.mark.parametrize("dims", AXES)
@pytest.mark.parametrize("size", [1, 2, (2, None, 3)])
def test_adaptive_average_pooling_takes_the_mean_of_the_observed_pixels(dims, size):
    size = size[:dims] if isinstance(size, tuple) else size
    generator = torch.Generator().manual_seed(dims)
    features = torch.randn(2, 3, *[5] * dims, generator=generator, dtype=torch.float64)
    mask = random_mask(generator, (2, 1, *[5] * dims), 0.4)
    mask[0] = False
    pool = getattr(layers, f"SparseAdaptiveAvgPool{dims}d")(size)
    plain = getattr(nn, f"AdaptiveAvgPool{dims}d")(size)
    torch.testing.assert_close(pool(features, None)[0], plain(features))
    out, seen = pool(torch.where(mask, features, torch.nan), mask)
    share = plain(mask.double())
    torch.testing.assert_close(out, torch.where(share > 0, plain(features * mask) / share, 0), rtol=1e-12, atol=1e-12)
    assert torch.equal(seen, share > 0) and not seen[0].any()
    if size == 1:
        observed = features[1][:, mask[1, 0]]
        torch.testing.assert_close(out[1].flatten(), observed.mean(1))
    one, seen_of_one = pool(features[1], mask[1])
    assert torch.equal(one, out[1]) and torch.equal(seen_of_one, seen[1])


@pytest.mark.parametrize("make", [layers.SparseMaxPool2d, layers.SparseAvgPool2d])
@pytest.mark.parametrize(
    "bad", [{"padding": 2}, {"padding": -1}, {"stride": 0}, {"ceil_mode": 1.5}, {"kernel_size": (1, 2, 3)}]
)
def test_a_bad_argument_of_a_pooling_is_refused_by_name(make, bad):
    (name,) = bad
    with pytest.raises(ValueError, match=rf"^{name}=.* is not allowed.*$"):
        make(**{"kernel_size": 2} | bad)


@pytest.mark.parametrize(
    ("make", "bad"), [(layers.SparseMaxPool2d, "return_indices"), (layers.SparseAvgPool2d, "divisor_override")]
)
def test_what_a_mask_gives_no_meaning_is_refused_by_name(make, bad):
    with pytest.raises(ValueError, match=rf"^{bad}=True is not allowed.*$"):
        make(2, **{bad: True})


# Batch norm


def norms(dims, **settings):
    torch.manual_seed(0)
    plain = getattr(nn, f"BatchNorm{dims}d")(3, **settings).double()
    if plain.affine:
        nn.init.normal_(plain.weight)
        nn.init.normal_(plain.bias)
    cls = getattr(layers, f"SparseBatchNorm{dims}d")
    return plain, getattr(cls, f"from_batch_norm{dims}d")(copy.deepcopy(plain))


@pytest.mark.parametrize(
    "settings", [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}], ids=str
)
@pytest.mark.parametrize("dims", AXES)
def test_where_all_is_observed_batch_norm_is_pytorchs(dims, settings):
    plain, norm = norms(dims, **settings)
    assert list(norm.state_dict()) == list(plain.state_dict())
    for training in (True, True, False):
        features = torch.randn(4, 3, *[4] * dims, dtype=torch.float64)
        wanted = plain.train(training)(features)
        full = torch.ones(1, 1, *[4] * dims)
        out, mask = norm.train(training)(features, full)
        torch.testing.assert_close(out, wanted)
        assert mask is full
        torch.testing.assert_close(norm.state_dict(), plain.state_dict())
    torch.testing.assert_close(norm(features)[0], plain(features))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dims", AXES)
def test_batch_norms_statistics_are_those_of_the_observed_places(dims, channels):
    _, norm = norms(dims)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4, 3, *[4] * dims, generator=generator, dtype=torch.float64)
    mask = random_mask(generator, (4, channels, *[4] * dims), 0.5)
    out, _ = norm(torch.where(mask, features, torch.nan), mask)
    assert not out[~mask.expand_as(out)].any()
    for channel in range(3):
        observed = features[:, channel][mask[:, channel if channels == 3 else 0]]
        shown = out[:, channel][mask[:, channel if channels == 3 else 0]]
        by_hand = (observed - observed.mean()) / (observed.var(correction=0) + norm.eps).sqrt()
        torch.testing.assert_close(shown, by_hand * norm.weight[channel] + norm.bias[channel])
        torch.testing.assert_close(norm.running_mean[channel], 0.1 * observed.mean())
        torch.testing.assert_close(norm.running_var[channel], 0.9 + 0.1 * observed.var())


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dims", AXES)
def test_in_evaluation_observed_places_are_pytorchs_and_missing_ones_0(dims, affine):
    plain, norm = norms(dims, affine=affine)
    for layer in (plain, norm):
        layer.eval()
        layer.running_mean += torch.tensor([1.0, -2, 3])
        layer.running_var *= torch.tensor([0.5, 1, 4])
    features = torch.randn(4, 3, *[4] * dims, dtype=torch.float64)
    mask = random_mask(torch.Generator().manual_seed(0), (4, 1, *[4] * dims), 0.5)
    before = copy.deepcopy(norm.state_dict())
    out, _ = norm(torch.where(mask, features, torch.nan), mask)
    torch.testing.assert_close(out, torch.where(mask, plain(features), 0))
    torch.testing.assert_close(norm.state_dict(), before, rtol=0, atol=0)


def test_a_batch_with_nothing_observed_changes_no_statistics_and_gives_0():
    _, norm = norms(2)
    before = copy.deepcopy(norm.state_dict())
    out, _ = norm(torch.full((2, 3, 4, 4), torch.nan, dtype=torch.float64), torch.zeros(2, 1, 4, 4))
    assert not out.any()
    assert torch.equal(norm.running_mean, before["running_mean"]) and torch.equal(
        norm.running_var, before["running_var"]
    )


def test_one_observed_place_is_followed_too():
    _, norm = norms(2)
    mask = torch.zeros(2, 1, 4, 4)
    mask[1, 0, 2, 3] = 1
    features = torch.full((2, 3, 4, 4), 5.0, dtype=torch.float64)
    out, _ = norm(features, mask)
    torch.testing.assert_close(out[1, :, 2, 3], norm.bias)
    torch.testing.assert_close(norm.running_mean, torch.full_like(norm.running_mean, 0.5))
    torch.testing.assert_close(norm.running_var, torch.full_like(norm.running_var, 0.9))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mask", [torch.ones(1, 1, 4, 4), None])
def test_statistics_that_are_not_tracked_any_more_stay_and_serve_evaluation_as_pytorchs_do(training, mask):
    plain, norm = norms(2)
    features = torch.randn(4, 3, 4, 4, dtype=torch.float64)
    for layer in (plain, norm):
        layer.running_mean += torch.tensor([1.0, -2, 3])
        layer.track_running_stats = False
        layer.train(training)
    before = copy.deepcopy(norm.state_dict())
    torch.testing.assert_close(norm(features, mask)[0], plain(features))
    torch.testing.assert_close(norm.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norms_derivatives_are_right_and_0_where_missing(training):
    _, norm = norms(2)
    norm.train(training)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    mask = random_mask(generator, (2, 1, 3, 2), 0.6)

    def call(x, weight, bias):
        return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (x, mask))[0]

    inputs = (features, norm.weight.detach().requires_grad_(), norm.bias.detach().requires_grad_())
    assert torch.autograd.gradcheck(call, inputs) and torch.autograd.gradgradcheck(call, inputs, fast_mode=True)
    (gradient,) = torch.autograd.grad(call(*inputs).square().sum(), features)
    assert not gradient[~mask.expand_as(gradient)].any()
    assert not any(buffer.requires_grad for buffer in norm.buffers())


def test_half_precision_is_normed_in_float32():
    norm = layers.SparseBatchNorm2d(3)
    features = 1000 + torch.randn(8, 3, 16, 16)
    mask = torch.rand(8, 1, 16, 16) < 0.5
    exact, _ = norm(features.bfloat16().float(), mask)
    out, _ = norm(features.bfloat16(), mask)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), exact, rtol=1e-2, atol=1e-2)


def test_batch_norm_1d_takes_features_without_places():
    plain, norm = norms(1)
    features = torch.randn(5, 3, dtype=torch.float64)
    out, _ = norm(features, torch.tensor([1, 1, 0, 1, 1])[:, None])
    torch.testing.assert_close(out[[0, 1, 3, 4]], plain(features[[0, 1, 3, 4]]))
    with pytest.raises(ValueError, match=r"features \(5, 3, 2, 2\) are not allowed: N x C x L"):
        norm(torch.ones(5, 3, 2, 2))
