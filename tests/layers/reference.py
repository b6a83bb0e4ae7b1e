"""What the layers must give, place by place in float64, and cases to ask it of."""

import itertools
import math

import numpy as np
import torch
from hypothesis import strategies as st

GARBAGE = [float("nan"), float("inf"), -float("inf"), 1e30]
NUMPYS = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def in_numpy(features, mask):
    """Both as N x C x ..., the missing features 0."""
    x = features.detach().double().numpy()
    o = np.ones(x.shape, bool) if mask is None else np.broadcast_to(mask.numpy() != 0, x.shape)
    return np.where(o, x, 0), o


def normalised(total, observed, deep, size, bias, eps, scale):
    """Sums over windows of ``size`` pixels, in which so many of ``deep`` channels are observed, put together, as the
    paper has it; what the layer takes for 0 / 0 is the bias."""
    divisor = observed / deep + eps
    if scale == "window":
        divisor = divisor / np.maximum(size + eps, eps or 1)
    return np.where(observed > 0, total / np.where(observed > 0, divisor, 1), 0) + bias


def equation(
    features, mask, weight, bias, stride, padding, dilation, groups=1,
    eps=1e-8, scale="count", padding_observed=False, padding_mode="zeros",
):  # fmt: skip
    """The paper's equations 1 and 2, window by window, and their like for the arguments that it does not have; all
    numbers a tuple with one an axis. The mask has as many channels as the features that come out."""
    x, o = in_numpy(features, mask)
    w = weight.detach().double().numpy()
    kernel, channels = w.shape[2:], w.shape[1]
    b = np.zeros(len(w)) if bias is None else bias.detach().double().numpy()
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    # With "same" Conv2d puts the odd one out behind.
    around = [(r // 2, r - r // 2) for r in reach] if padding == "same" else [(n, n) for n in padding]
    filler = {"constant_values": padding_observed} if padding_mode == "zeros" else {}
    x = np.pad(x, [(0, 0), (0, 0), *around], NUMPYS[padding_mode])
    o = np.pad(o, [(0, 0), (0, 0), *around], NUMPYS[padding_mode], **filler)
    places = [(n - r - 1) // s + 1 for n, r, s in zip(x.shape[2:], reach, stride, strict=True)]
    out, seen = np.empty((len(x), len(w), *places)), np.empty((len(x), len(w), *places), bool)
    for place in np.ndindex(*places):
        taps = np.ix_(*(p * s + d * np.arange(k) for p, s, d, k in zip(place, stride, dilation, kernel, strict=True)))
        for n, d in np.ndindex(len(x), len(w)):
            group = slice(d // (len(w) // groups) * channels, (d // (len(w) // groups) + 1) * channels)
            window = np.stack([image[taps] for image in x[n, group]])
            observed = sum(image[taps].sum() for image in o[n, group])
            total = (window * w[d]).sum()
            out[(n, d, *place)] = normalised(total, observed, channels, math.prod(kernel), b[d], eps, scale)
            seen[(n, d, *place)] = observed > 0
    return torch.from_numpy(out), torch.from_numpy(seen)


def transposed_equation(
    features, mask, weight, bias, stride, padding, output_padding, groups, dilation,
    eps=1e-8, scale="count", padding_observed=False,
):  # fmt: skip
    """Each pixel's share goes where its weights reach; beside the image lie pixels of 0, observed or missing."""
    x, o = in_numpy(features, mask)
    w = weight.detach().double().numpy()
    kernel, each = w.shape[2:], w.shape[1]
    channels, width_out = x.shape[1] // groups, each * groups
    b = np.zeros(width_out) if bias is None else bias.detach().double().numpy()
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    geometry = zip(x.shape[2:], stride, padding, reach, output_padding, strict=True)
    places = [(n - 1) * s - 2 * p + r + q + 1 for n, s, p, r, q in geometry]
    total = np.zeros((len(x), width_out, *places))
    observed, size = np.zeros(total.shape), np.zeros(places)
    beyond = [
        range(-r - p - q, n + r + p + q) for n, r, p, q in zip(x.shape[2:], reach, padding, output_padding, strict=True)
    ]
    for pixel, tap in itertools.product(itertools.product(*beyond), np.ndindex(*kernel)):
        geometry = zip(pixel, stride, padding, dilation, tap, strict=True)
        place = tuple(i * s - p + d * k for i, s, p, d, k in geometry)
        if not all(0 <= u < n for u, n in zip(place, places, strict=True)):
            continue
        size[place] += 1
        inside = all(0 <= i < n for i, n in zip(pixel, x.shape[2:], strict=True))
        for n, d in np.ndindex(len(x), width_out):
            for c in range(d // each * channels, (d // each + 1) * channels):
                if inside:
                    total[(n, d, *place)] += x[(n, c, *pixel)] * w[(c, d % each, *tap)]
                observed[(n, d, *place)] += o[(n, c, *pixel)] if inside else padding_observed
    b = b.reshape(-1, *[1] * len(places))
    seen = (observed > 0) | (padding_observed & (size == 0))
    return torch.from_numpy(normalised(total, observed, channels, size, b, eps, scale)), torch.from_numpy(seen)


def random_mask(generator, shape, observed, dtype=torch.bool):
    return (torch.rand(shape, generator=generator) < observed).to(dtype)


def of_channels(seen, like):
    """A layer's mask as the reference's: one a channel that came out, one an image."""
    return seen.bool().expand(like.shape)


@st.composite
def cases(draw, dims, transposed=False):
    """Features, mask, weight, bias, then PyTorch's arguments in its order, and ours by keyword; of float64."""
    some = lambda least, most: draw(st.tuples(*[st.integers(least, most)] * dims))  # noqa: E731
    wide = {1: 4, 2: 3, 3: 2}[dims]
    kernel, stride, dilation = some(1, wide), some(1, 3), some(1, 2)
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, width_out = (groups * draw(st.integers(1, 2)) for _ in range(2))
    keywords = {
        "eps": draw(st.sampled_from([0, 1e-8, 0.5])),
        "scale": draw(st.sampled_from(["count", "window"])),
        "padding_observed": draw(st.booleans()),
    }
    padding, mode = some(0, 2), "zeros"
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if transposed:
        more = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
        least = [
            max(1, math.ceil((2 * p - r - q) / s) + 1) for p, r, q, s in zip(padding, reach, more, stride, strict=True)
        ]
    else:
        if draw(st.integers(0, 3)) == 0:
            padding, stride = "same", (1,) * dims
        mode = keywords["padding_mode"] = draw(st.sampled_from(["zeros", *NUMPYS]))
        around = [(r // 2, r - r // 2) for r in reach] if padding == "same" else [(p, p) for p in padding]
        least = [max(1, r + 1 - sum(edge)) for r, edge in zip(reach, around, strict=True)]
        if mode in ("reflect", "circular"):  # which can't go round an image more than once
            least = [max(n, max(edge) + (mode == "reflect")) for n, edge in zip(least, around, strict=True)]
    size = [draw(st.integers(n, n + 3)) for n in least]
    count = draw(st.integers(1, 2))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    features = torch.randn(count, channels, *size, generator=generator, dtype=torch.float64)
    mask = random_mask(
        generator,
        (draw(st.sampled_from([1, count])), draw(st.sampled_from([1, 1, channels])), *size),
        draw(st.sampled_from([0, 0.2, 0.6, 1])),
        draw(st.sampled_from([torch.bool, torch.float32, torch.uint8])),
    )
    features = torch.where(mask != 0, features, draw(st.sampled_from([0.0, *GARBAGE])))
    shape = (channels, width_out // groups) if transposed else (width_out, channels // groups)
    weight = torch.randn(*shape, *kernel, generator=generator, dtype=torch.float64)
    bias = torch.randn(width_out, generator=generator, dtype=torch.float64) if draw(st.booleans()) else None
    order = (stride, padding, more, groups, dilation) if transposed else (stride, padding, dilation, groups)
    return (features, draw(st.sampled_from([mask, mask, mask, None])), weight, bias, *order), keywords
