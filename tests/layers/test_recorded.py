"""What PyTorch does with a layer beside calling it: tracing, torch.fx, fake tensors, export, ONNX, scripting."""

import copy
import pickle

import onnxruntime
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim
from torchvision.models.feature_extraction import create_feature_extractor

from sparsecnn import layers


class Small(nn.Module):
    """One of each kind of layer."""

    def __init__(self):
        super().__init__()
        self.first = layers.SparseConv2d(3, 8, 3, padding=1)
        self.norm = layers.SparseBatchNorm2d(8)
        self.pool = layers.SparseMaxPool2d(2)
        self.second = layers.SparseConv2d(8, 8, 3, 1, 1, groups=2, scale="window", padding_observed=True)
        self.third = layers.SparseConv2d(8, 4, (3, 2), padding="same", padding_mode="circular", bias=False)
        self.up = layers.SparseConvTranspose2d(4, 4, 3, 2, 1, 1, padding_observed=True)
        self.mean = layers.SparseAvgPool2d(3, 2, 1)
        self.last = layers.SparseAdaptiveAvgPool2d(1)

    def forward(self, features, mask):
        for layer in (self.first, self.norm, self.pool, self.second, self.third, self.up, self.mean):
            features, mask = layer(features, mask)
            features = features.relu()
        return self.last(features, mask)


def network() -> Small:
    torch.manual_seed(0)
    return Small().eval()


def inputs(count=2, height=12, width=14, observed=0.4):
    generator = torch.Generator().manual_seed(height)
    mask = torch.rand(count, 1, height, width, generator=generator) < observed
    return torch.where(mask, torch.randn(count, 3, height, width, generator=generator), torch.nan), mask


def agrees(call, layer, *cases) -> None:
    for features, mask in cases or [inputs(), inputs(observed=1), inputs(3, 21, 18)]:
        torch.testing.assert_close(tuple(call(features, mask)), layer(features, mask), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("example", [1, 0.4])
def test_traced_it_minds_its_masks(example):
    layer = network()
    agrees(torch.jit.trace(layer, inputs(observed=example)), layer)


@pytest.mark.parametrize("dims", [1, 3])
def test_traced_in_one_and_three_dimensions(dims):
    layer = getattr(layers, f"SparseConv{dims}d")(2, 3, 3, padding=1)
    features, full = torch.randn(2, 2, *[5] * dims), torch.ones(2, 1, *[5] * dims)
    mask = (torch.rand(full.shape) < 0.5).float()
    agrees(torch.jit.trace(layer, (features, full)), layer, (features, full), (features, mask))


def test_torch_fx_takes_it_as_one_operation():
    layer = network()
    traced = torch.fx.symbolic_trace(layer)
    agrees(traced, layer)
    assert layers.sparse_conv2d in [node.target for node in traced.graph.nodes]
    features, mask = inputs()
    found = create_feature_extractor(layer, {"relu": "first"})(features, mask)["first"]
    torch.testing.assert_close(found, layer.first(features, mask)[0].relu())


def test_fake_and_meta_tensors_give_the_shapes():
    layer = network()
    features, mask = inputs()
    mask = mask.float()
    shapes = [tensor.shape for tensor in layer(features, mask)]
    with FakeTensorMode() as mode:
        fake = Small().eval()
        out = fake(mode.from_tensor(features), mode.from_tensor(mask))
        out[0].sum().backward()
    assert [tensor.shape for tensor in out] == shapes
    out = copy.deepcopy(layer).to("meta")(features.to("meta"), mask.to("meta"))
    assert [tensor.shape for tensor in out] == shapes


@pytest.mark.parametrize("cls", [layers.SparseConv2d, layers.SparseConvTranspose2d])
def test_skip_init_and_device_and_dtype(cls):
    layer = nn.utils.skip_init(cls, 3, 4, 3, dtype=torch.float64)
    assert layer.weight.dtype == torch.float64 and layer.weight.device.type == "cpu"
    assert cls(3, 4, 3, device="meta", dtype=torch.bfloat16).weight.is_meta


def of_any_size():
    count, height, width = Dim("count", min=1, max=64), Dim("height", min=8, max=512), Dim("width", min=8, max=512)
    sizes = {0: count, 2: height, 3: width}
    return sizes, sizes


def test_exported_it_takes_any_number_height_and_width():
    try:  # 2.11's takes heights that are all even or all odd
        torch.export.export(nn.MaxPool2d(2), inputs()[:1], dynamic_shapes=of_any_size()[:1])
    except torch._dynamo.exc.UserError as error:
        pytest.skip(f"PyTorch's own pooling does not: {str(error).splitlines()[0]}")
    layer = network()
    agrees(torch.export.export(layer, inputs(), dynamic_shapes=of_any_size()).module(), layer)


def test_as_onnx_it_gives_the_same_in_onnxruntime(tmp_path):
    layer = network()
    program = torch.onnx.export(layer, inputs(), dynamo=True, dynamic_shapes=of_any_size(), verbose=False)
    program.save(tmp_path / "layer.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "layer.onnx")
    names = [each.name for each in session.get_inputs()]

    def call(*tensors):
        given = dict(zip(names, (tensor.numpy() for tensor in tensors), strict=True))
        return [torch.from_numpy(array) for array in session.run(None, given)]

    agrees(call, layer)


@pytest.mark.parametrize("name", ["pool", "second", "third", "up"])
def test_compiled_it_is_one_graph_for_any_size(name):
    layer = network().get_submodule(name)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for _, mask in (inputs(), inputs(3, 21, 18)):
        features = torch.randn(len(mask), getattr(layer, "in_channels", 8), *mask.shape[2:])
        torch.testing.assert_close(compiled(features, mask), layer(features, mask), rtol=1e-4, atol=1e-5)


def test_scripting_is_refused_in_one_line():
    with pytest.raises(RuntimeError, match=r"^SparseConv2d can't be scripted: .*torch.export.*$"):
        torch.jit.script(layers.SparseConv2d(3, 4, 3))


def test_it_goes_through_pickle_and_deepcopy():
    layer = network()
    for again in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        agrees(again, layer)


def test_a_negative_or_conjugate_view_is_what_it_stands_for():
    features = torch.randn(2, 3, 12, 14, dtype=torch.complex64).conj().imag
    assert features.is_neg()
    _, mask = inputs()
    layer = layers.SparseConv2d(3, 4, 3)
    copied = features.resolve_neg().clone().requires_grad_()
    viewed = features.requires_grad_()
    out = [layer(given, mask)[0] for given in (viewed, copied)]
    torch.testing.assert_close(*out)
    pull = torch.randn(out[0].shape, dtype=torch.complex64).conj().imag
    torch.testing.assert_close(
        *(torch.autograd.grad(each, given, pull)[0] for each, given in zip(out, (viewed, copied), strict=True))
    )


def test_a_subclass_of_tensor_comes_out_as_one():
    class Mine(torch.Tensor):
        pass

    features, mask = inputs()
    out, _ = layers.SparseConv2d(3, 4, 3)(features.as_subclass(Mine), mask)
    assert type(out) is Mine
