"""The module SparseConv2d: its parameters, precisions and layouts, its arguments, and what it refuses."""

import inspect
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from sparsecnn import SparseConv2d, SparseConvTranspose2d, SparseMaxPool2d, sparse_conv2d
from sparsecnn.layers import counting, window_scale
from sparsecnn.training.devices import exact_float32

GARBAGE = [float("nan"), float("inf"), -float("inf"), 1e30]
MASK_DTYPES = [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float16, torch.float32, torch.float64]


def random_mask(generator, shape, observed, dtype):
    return (torch.rand(shape, generator=generator) < observed).to(dtype)


def small(dtype=torch.float32, batch=2, channels=2):
    """Features and a mask whose left part is all missing, so that a 3 x 3 window can be empty."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(batch, channels, 9, 8, generator=generator, dtype=dtype)
    mask = random_mask(generator, (batch, 1, 9, 8), 0.5, torch.bool)
    mask[..., :4] = False
    return features, mask


@pytest.mark.parametrize("observed", [0.5, 1.0])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-7), (torch.bfloat16, 2e-2)])
def test_torch_func_gives_each_images_gradient(dtype, tolerance, kernel, observed):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 2, 5, 4, generator=generator, dtype=dtype).to(memory_format=torch.channels_last)
    mask = random_mask(generator, (3, 1, 5, 4), observed, torch.bool)
    layer = SparseConv2d(2, 3, kernel, padding="same").to(dtype)

    def loss(parameters, image, mask):
        out, _ = torch.func.functional_call(layer, parameters, (image[None], mask[None]))
        return out.square().mean()

    weights = {name: parameter.detach() for name, parameter in layer.named_parameters()}
    of_images = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(weights, features, mask)
    for i in range(len(features)):
        out, _ = layer(features[i : i + 1], mask[i : i + 1])
        expected = torch.autograd.grad(out.square().mean(), list(layer.parameters()))
        found = [of_images[name][i] for name, _ in layer.named_parameters()]
        torch.testing.assert_close(found, list(expected), rtol=tolerance, atol=tolerance)


def gradients(layer, features, mask):
    """Output, and the gradients of a weighted sum of it."""
    features = features.clone().requires_grad_()
    out, _ = layer(features, mask)
    pull = torch.empty_like(out).copy_(torch.linspace(-1, 1, out.numel()).view(out.shape))  # laid out as it is
    return out.detach(), *torch.autograd.grad(out, [features, *layer.parameters()], pull)


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("make", [lambda: SparseConv2d(2, 3, 3, padding="same"), lambda: SparseMaxPool2d(2)])
def test_what_lies_under_a_zero_of_the_mask_changes_neither_output_nor_gradients(make, garbage):
    features, mask = small()
    layer = make()
    clean = gradients(layer, torch.where(mask, features, 0), mask)
    dirty = gradients(layer, torch.where(mask, features, garbage), mask)
    assert all(map(torch.equal, clean, dirty))
    missing = ~mask.expand_as(features)
    assert torch.equal(dirty[1][missing], torch.zeros(int(missing.sum())))
    assert dirty[1][~missing].any()


@pytest.mark.parametrize("eps", [0, 1e-8, 1.0])
@pytest.mark.parametrize(
    ("dtype", "autocast"),
    [(torch.float64, False), (torch.float32, False)]
    + [(half, autocast) for half in (torch.bfloat16, torch.float16) for autocast in (False, True)],
)
def test_an_empty_window_holds_exactly_the_bias(dtype, eps, autocast):
    # 1e-8 is 0 in float16: a division done there would give NaN.
    features, mask = small()
    layer = SparseConv2d(2, 3, 3, padding="same", eps=eps)
    if not autocast:
        features, layer = features.to(dtype), layer.to(dtype)
    with torch.autocast("cpu", dtype, enabled=autocast):
        out, seen = layer(features, mask)
    empty = ~seen.expand_as(out)
    assert 0 < empty.sum() < empty.numel()
    assert out.dtype == dtype and out.isfinite().all()
    assert torch.equal(out[empty], layer.bias.to(dtype).view(-1, 1, 1).expand_as(out)[empty])


@pytest.mark.parametrize("scale", ["count", "window"])
@pytest.mark.parametrize(
    ("make", "convolutions"), [(SparseConv2d, counting.CONVOLVE), (SparseConvTranspose2d, counting.TRANSPOSE)]
)
def test_an_empty_window_holds_exactly_the_bias_however_sums_are_rounded(monkeypatch, make, convolutions, scale):
    # Winograd convolutions, which cuDNN has, take neighbours into a sum and out again: a rounding error stays.
    features, mask = small()
    layer, exact = make(2, 3, 3, padding=1, scale=scale), convolutions[2]
    before, _ = layer(features, mask)
    monkeypatch.setitem(convolutions, 2, lambda *args, **geometry: exact(*args, **geometry) + 1e-3)
    out, seen = layer(features, mask)
    empty = ~seen.expand_as(out)
    assert empty.any() and not (out == before)[~empty].any()
    assert torch.equal(out[empty], layer.bias.view(-1, 1, 1).expand_as(out)[empty])


@pytest.mark.parametrize("kernel", [1, 3, (2, 5)])
def test_with_all_observed_it_is_conv2d_divided_by_the_window(kernel):
    features, _ = small(torch.float64)
    layer = SparseConv2d(2, 3, kernel).double()
    out, seen = layer(features, torch.ones(1, 1, 9, 8))
    rows, columns = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    plain = nn.functional.conv2d(features, layer.weight) / (rows * columns) + layer.bias.view(-1, 1, 1)
    # eps is what they differ by
    torch.testing.assert_close(out, plain, rtol=1e-6, atol=1e-7)
    assert seen.all()


def test_padding_counts_as_missing():
    # One 1 per pixel: the mean over the observed pixels is 1 at the border too.
    out, _ = sparse_conv2d(torch.ones(1, 1, 5, 5), torch.ones(1, 1, 5, 5), torch.ones(1, 1, 3, 3), padding=1)
    torch.testing.assert_close(out, torch.ones(1, 1, 5, 5))


@pytest.mark.parametrize("dtype", MASK_DTYPES)
@pytest.mark.parametrize("layer", [SparseConv2d(2, 3, 3, padding=1), SparseMaxPool2d(3, 1, 1)])
def test_the_mask_keeps_its_dtype_and_any_number_but_0_is_observed(layer, dtype):
    features, mask = small()
    out, seen = layer(features, (3 * mask).to(dtype))
    wanted, wanted_seen = layer(features, mask)
    assert torch.equal(out, wanted)
    assert torch.equal(seen, wanted_seen.to(dtype)) and seen.dtype == dtype


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
def test_under_autocast_it_stays_finite_and_close(dtype, tolerance):
    features, mask = small(channels=32)
    layer = SparseConv2d(32, 8, 5, padding="same")
    exact, _ = layer(features, mask)
    with torch.autocast("cpu", dtype):
        out, _ = layer(features, mask)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("all_observed", [False, True])
@pytest.mark.parametrize("masks", [1, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
@pytest.mark.parametrize(("channels_out", "kernel"), [(3, 3), (3, 1), (1, 1)])
def test_channels_last_comes_out_as_channels_last(channels_out, kernel, dtype, tolerance, masks, all_observed):
    features, mask = small(batch=3, channels=4)
    mask = mask[:masks] | all_observed
    layer = SparseConv2d(4, channels_out, kernel, padding="same").to(dtype)
    features = features.to(dtype)
    plain = gradients(layer, features, mask)
    layer.to(memory_format=torch.channels_last)
    out = gradients(layer, features.contiguous(memory_format=torch.channels_last), mask)
    assert out[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, plain, rtol=tolerance, atol=tolerance)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_in_one_graph_it_computes_the_same():
    features, mask = small()
    features = torch.where(mask, features, torch.nan)
    layer = SparseConv2d(2, 3, 3, padding="same")
    compiled = torch.compile(layer, fullgraph=True)
    torch.testing.assert_close(gradients(compiled, features, mask), gradients(layer, features, mask))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_under_autocast_it_counts_what_bf16_does_not_hold():
    mask = torch.ones(1, 1, 19, 19, dtype=torch.bool)
    mask[..., :2, 0] = False

    def scale(mask: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return window_scale(mask, (19, 19), (1, 1), (0, 0), (1, 1), 0.0, torch.float32)[0]

    for way in (scale, torch.compile(scale, fullgraph=True)):
        torch.testing.assert_close(way(mask), torch.tensor(1 / 359).view(1, 1, 1, 1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("bias", [True, False])
def test_weights_go_to_and_fro_with_conv2d(bias):
    plain = nn.Conv2d(2, 3, (3, 2), bias=bias)
    sparse = SparseConv2d(2, 3, (3, 2), bias=bias)
    sparse.load_state_dict(plain.state_dict())
    assert list(sparse.state_dict()) == (["weight", "bias"] if bias else ["weight"])
    assert torch.equal(sparse.weight, plain.weight)
    plain.load_state_dict(SparseConv2d(2, 3, (3, 2), bias=bias).state_dict())


def test_a_seed_gives_conv2ds_initial_weights():
    torch.manual_seed(3)
    plain = nn.Conv2d(2, 3, 5)
    torch.manual_seed(3)
    sparse = SparseConv2d(2, 3, 5)
    assert torch.equal(sparse.weight, plain.weight) and torch.equal(sparse.bias, plain.bias)


WRONG_MASKS = [(2, 1, 8, 9), (2, 1, 9, 7), (2, 3, 9, 8), (3, 1, 9, 8), (2, 9, 8), (9, 8), (0, 1, 9, 8)]


@pytest.mark.parametrize("layer", [SparseConv2d(2, 3, 3), SparseMaxPool2d(2)])
@pytest.mark.parametrize("shape", WRONG_MASKS, ids=str)
def test_a_mask_that_does_not_fit_is_refused_with_both_shapes(layer, shape):
    with pytest.raises(ValueError) as error:
        layer(torch.zeros(2, 2, 9, 8), torch.ones(shape))
    assert str(shape) in str(error.value) and "(2, 2, 9, 8)" in str(error.value)


def test_a_mask_for_more_images_than_there_are_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 1, 9, 8\).*\(1, 2, 9, 8\)"):
        SparseConv2d(2, 3, 3)(torch.zeros(1, 2, 9, 8), torch.ones(2, 1, 9, 8))


@pytest.mark.parametrize("weight", [(3, 1, 3, 3), (3, 4, 3, 3), (3, 2, 3)], ids=str)
def test_a_weight_that_does_not_fit_is_refused_with_both_shapes(weight):
    with pytest.raises(ValueError) as error:
        sparse_conv2d(torch.zeros(2, 2, 9, 8), torch.ones(2, 1, 9, 8), torch.zeros(weight))
    assert str(weight) in str(error.value) and "(2, 2, 9, 8)" in str(error.value)


def test_the_arguments_are_conv2ds_in_its_order():
    layer, plain = (cls(4, 6, 3, 2, 1, 1, 2, False, "reflect") for cls in (SparseConv2d, nn.Conv2d))
    for name in (*plain.__constants__, "bias"):
        assert getattr(layer, name) == getattr(plain, name)
    assert (layer.eps, layer.scale, layer.padding_observed) == (1e-8, "count", False)
    theirs, ours = (list(inspect.signature(cls).parameters.values()) for cls in (nn.Conv2d, SparseConv2d))
    assert [(each.name, each.default) for each in theirs] == [(each.name, each.default) for each in ours[: len(theirs)]]
    assert all(each.kind == each.KEYWORD_ONLY for each in ours[len(theirs) :])


@pytest.mark.parametrize("kind", [np.int64, np.uint8, torch.tensor])
def test_numpys_numbers_and_tensors_without_axes_are_numbers(kind):
    number = lambda value: kind(value)  # noqa: E731
    layer = SparseConv2d(number(4), number(6), number(3), (number(2), 1), number(1), number(1), number(2), eps=kind(1))
    plain = SparseConv2d(4, 6, 3, (2, 1), 1, 1, 2, eps=1)
    assert repr(layer) == repr(plain)
    layer.load_state_dict(plain.state_dict())
    features, mask = small(channels=4)
    arguments = ((number(2), 1), number(1), number(1), number(2))
    out, _ = sparse_conv2d(features, mask, layer.weight, layer.bias, *arguments, eps=np.float32(1))
    assert torch.equal(out, plain(features, mask)[0])
    assert repr(SparseMaxPool2d(number(2), padding=number(1))) == repr(SparseMaxPool2d(2, padding=1))


@pytest.mark.parametrize("layer", [SparseConv2d(2, 3, 3), SparseMaxPool2d(2)])
def test_without_a_mask_all_is_observed(layer):
    features, _ = small()
    out, seen = layer(features)
    wanted, wanted_seen = layer(features, torch.ones(1, 1, 9, 8, dtype=torch.bool))
    assert torch.equal(out, wanted) and torch.equal(seen, wanted_seen) and seen.dtype == torch.bool


@pytest.mark.parametrize("layer", [SparseConv2d(2, 3, 3), SparseMaxPool2d(2)])
def test_a_confidence_is_refused_with_what_to_give_instead(layer):
    features, mask = small()
    for confidence in (0.3 * mask, torch.where(mask, 1.0, torch.nan), mask.to(torch.float16) / 2):
        with pytest.raises(ValueError, match=r"^mask that holds .*mask > 0.*normalised convolution.*$"):
            layer(features, confidence)
    with pytest.raises(ValueError, match=r"^mask that requires a gradient .*mask > 0.*normalised convolution.*$"):
        layer(features, mask.float().requires_grad_())


def test_a_batch_of_none_goes_through():
    features, mask = small()
    out, seen = SparseConv2d(2, 3, 3)(features[:0], mask[:0])
    assert out.shape == (0, 3, 7, 6) and seen.shape == (0, 1, 7, 6)


def test_without_a_bias_empty_windows_hold_0_in_16_bits_and_channels_last_too():
    features, mask = small()
    layer = SparseConv2d(2, 3, 3, bias=False).bfloat16().to(memory_format=torch.channels_last)
    features = features.bfloat16().contiguous(memory_format=torch.channels_last)
    out, seen = layer(features, mask)
    wanted, _ = layer.float()(features.float(), mask)
    torch.testing.assert_close(out.float(), wanted, rtol=2e-2, atol=2e-2)
    assert not out[~seen.expand_as(out)].any() and not seen.all()


def test_without_a_bias_torch_func_gives_the_same():
    features, mask = small()
    layer = SparseConv2d(2, 3, 3, bias=False)
    wanted = [layer(image[None], seen[None])[0] for image, seen in zip(features, mask, strict=True)]
    found = torch.func.vmap(lambda image, seen: layer(image[None], seen[None])[0])(features, mask)
    torch.testing.assert_close(found, torch.stack(wanted))


@pytest.mark.parametrize("bias", [0, 1e-8, "no", None])
def test_a_bias_that_is_neither_true_nor_false_is_refused(bias):
    with pytest.raises(ValueError, match="^bias=.* is not allowed: True, False$"):
        SparseConv2d(3, 16, 3, 1, 1, 1, 1, bias)


@pytest.mark.parametrize("eps", [-1e-8, float("nan")])
def test_a_negative_eps_is_refused(eps):
    with pytest.raises(ValueError, match=f"eps={eps}"):
        SparseConv2d(1, 1, 3, eps=eps)


def test_same_padding_with_a_stride_is_refused():
    with pytest.raises(ValueError, match="same"):
        SparseConv2d(1, 1, 3, stride=2, padding="same")
    features, mask = small()
    with pytest.raises(ValueError, match=r"stride=\(1, 2\).*'same'"):
        sparse_conv2d(features, mask, torch.ones(1, features.shape[1], 3, 3), stride=(1, 2), padding="same")


@pytest.mark.parametrize("changes", [{}, {"padding": 1}, {"padding": "valid"}, {"dilation": (1, 2), "padding": (4, 1)}])
def test_a_window_larger_than_the_padded_image_is_refused(changes):
    features, mask = torch.ones(1, 2, 5, 6), torch.ones(1, 1, 5, 6)
    with pytest.raises(ValueError, match=r"\(1, 2, 9, 9\).*\(1, 2, 5, 6\).*larger than the padded image"):
        sparse_conv2d(features, mask, torch.ones(1, 2, 9, 9), **changes)
    assert sparse_conv2d(features, mask, torch.ones(1, 2, 9, 10), padding=2)[0].shape == (1, 1, 1, 1)


@pytest.mark.cuda
@pytest.mark.parametrize("make", [lambda: SparseConv2d(2, 3, 3, padding="same"), lambda: SparseMaxPool2d(2)])
def test_cuda_agrees_with_the_cpu_also_over_garbage(make):
    features, mask = small()
    features = torch.where(mask, features, torch.nan)
    layer = make()
    on_cpu = gradients(layer, features, mask)
    with exact_float32():
        on_cuda = gradients(layer.cuda(), features.cuda(), mask.cuda())
    torch.testing.assert_close([out.cpu() for out in on_cuda], list(on_cpu), rtol=1e-4, atol=1e-5)


# In float16 cuDNN can compute 3 x 3 windows by Winograd's F(4 x 4, 3 x 3), in bfloat16 it can't. Worked through on the
# CPU, its errors here go to 0.006, fifteen times those of direct sums: a large window's error stays beside a small one.
@pytest.mark.cuda
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 1.5e-2)])
def test_under_autocast_on_cuda_it_stays_close_and_empty_windows_hold_the_bias(dtype, tolerance):
    features, mask = small(channels=32)
    layer = SparseConv2d(32, 8, 3, padding="same")
    exact, _ = layer(features, mask)
    layer.cuda()
    with torch.autocast("cuda", dtype):
        out, seen = layer(features.cuda(), mask.cuda())
    assert out.dtype == dtype
    torch.testing.assert_close(out.float().cpu(), exact, rtol=tolerance, atol=tolerance)
    empty = ~seen.expand_as(out)
    assert empty.any() and torch.equal(out[empty], layer.bias.to(dtype).view(-1, 1, 1).expand_as(out)[empty])
