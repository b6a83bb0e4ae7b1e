"""A network of PyTorch's layers as one whose layers know of missing pixels."""

import operator
from collections.abc import Callable

import torch
from torch import Tensor, fx, nn

from . import convolution, normalisation, pooling
from .arguments import check_choices, eps_of, observed_of
from .arithmetic import keep_observed

__all__ = ["masked_cat", "masked_mean", "masked_product", "masked_sum", "masks_through"]

# Whatever these do to a place, they do to it alone: as modules, functions or methods.
PLACEWISE = {
    "ReLU", "ReLU6", "LeakyReLU", "PReLU", "RReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Softplus",
    "Softsign", "Sigmoid", "Tanh", "Hardtanh", "Hardswish", "Hardsigmoid", "Identity", "Dropout", "Dropout1d",
    "Dropout2d", "Dropout3d", "AlphaDropout", "StochasticDepth", "relu", "relu_", "relu6", "leaky_relu", "elu", "selu",
    "celu", "gelu", "silu", "mish", "softplus", "sigmoid", "tanh", "hardtanh", "hardswish", "hardsigmoid", "dropout",
    "dropout1d", "dropout2d", "dropout3d", "stochastic_depth", "contiguous", "clone", "float", "half",
}  # fmt: skip
FLATTENS = {"Flatten", "flatten", "view", "reshape"}
ASKS = {"size", "dim", "getattr"}  # of features, what has no places
POOLS = {
    f"{kind}_pool{n}d": getattr(pooling, f"Sparse{name}Pool{n}d")
    for kind, name in (("max", "Max"), ("avg", "Avg"), ("adaptive_avg", "AdaptiveAvg"))
    for n in (1, 2, 3)
}


def masks_through(
    network: nn.Module, *, eps: float = 1e-8, scale: str = "window", padding_observed: bool = True
) -> fx.GraphModule:
    """``network`` with masks: ``scores = masks_through(network)(image, mask)``.

    Convolutions, batch norms and poolings become this package's, with the network's own Parameters and buffers, not
    copies of them. Masks flow from one to the next: through activations and dropout; through sums, where a place is
    observed if one of the terms is, and only those count; through products, where all factors must be; through
    concatenations of channels, each of which then has a mask of its own. Flattening ends them, and so does the mean
    over all places. Where the network returns features under a mask, they come as (features, mask).

    Args:
        network: one that torch.fx can trace, whose first input is the image; more inputs come behind the mask. Calls of
            functions that ask for ``self.training`` stay as they are in the mode it is in.
        eps, scale, padding_observed: of the convolutions. The defaults give the network's own scores where all is
            observed; ``scale="count"`` and ``padding_observed=False`` are the paper's.

    Raises:
        ValueError: for a network that torch.fx can't trace, and for a layer or an operation that nothing here stands
            for; the line names it.
    """
    keywords = {"eps": eps_of(eps), "scale": scale, "padding_observed": padding_observed}
    check_choices(scale, padding_observed)
    if not isinstance(network, nn.Module):
        raise ValueError(f"network of type {type(network).__name__} is not allowed: a torch.nn.Module")
    try:
        traced = fx.symbolic_trace(network)
    except Exception as error:  # whatever the network's own code says to a proxy
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{type(network).__name__} is not allowed: torch.fx can't trace it ({reason})") from error
    graph = _Writer(traced, keywords).written()
    return fx.GraphModule(traced, graph, class_name=type(network).__name__).train(network.training)


class _Writer:
    """Writes a traced network's graph anew, node by node, and puts the layers that it needs beside the traced ones."""

    def __init__(self, traced: fx.GraphModule, keywords: dict):
        self.traced, self.keywords, self.graph = traced, keywords, fx.Graph()
        self.new: dict[fx.Node, fx.Node] = {}  # for each node of the traced graph
        self.masks: dict[fx.Node, fx.Node] = {}  # for those whose features are under a mask
        self.ended: set[fx.Node] = set()  # of the traced graph, made from features whose mask has ended
        self.plain: set[str] = set()  # modules that are called without a mask
        self.layers: dict[str, nn.Module] = {}  # and the others, by their names

    def written(self) -> fx.Graph:
        for node in self.traced.graph.nodes:
            if node.op == "placeholder" and not self.new:
                self.new[node] = self.graph.node_copy(node)
                others = [more for more in node.graph.find_nodes(op="placeholder") if more is not node]
                default = () if any(not more.args for more in others) else (None,)
                self.masks[node] = self.graph.create_node("placeholder", "mask", default)
            elif node.op == "output":
                self.graph.output(fx.map_arg(node.args[0], self._returned))
            elif any(source in self.masks for source in node.all_input_nodes):
                self._write(node)
            else:
                self._copy(node)
        if both := self.plain & set(self.layers):
            raise ValueError(f"layer {min(both)} is not allowed: it is called with and without a mask")
        for name, layer in self.layers.items():
            self.traced.set_submodule(name, layer)
        return self.graph

    def _returned(self, node: fx.Node) -> fx.Node | tuple[fx.Node, fx.Node]:
        return (self.new[node], self.masks[node]) if node in self.masks else self.new[node]

    def _copy(self, node: fx.Node) -> None:
        if node.op == "call_module":
            self.plain.add(node.target)
        if any(source in self.ended for source in node.all_input_nodes):
            if self._has_places(node):
                raise ValueError(f"{self._name(node)[1]} is not allowed where masks have ended, by flatten or view")
            self.ended.add(node)
        self.new[node] = self.graph.node_copy(node, self.new.__getitem__)

    def _write(self, node: fx.Node) -> None:
        name, where, module = self._name(node)
        source = node.args[0] if node.args else None
        if name in PLACEWISE and source in self.masks:
            self._copy(node)
            self.masks[node] = self.masks[source]
        elif name in FLATTENS | ASKS:
            self._copy(node)
            if name in FLATTENS:
                self.ended.add(node)
        elif module is not None and (layer := self.layers.get(node.target) or _masked(module, self.keywords)):
            self._call(node, node.target, layer)
        elif name in POOLS and source in self.masks:
            layer = POOLS[name](*node.args[1:], **node.kwargs)
            self._call(node, node.name + "_masked", layer)
        elif name in ("add", "iadd", "add_") and not node.kwargs:
            self._combine(node, masked_sum, node.args)
        elif name in ("mul", "imul", "mul_") and not node.kwargs:
            self._combine(node, masked_product, node.args)
        elif name in ("cat", "concat") and (node.args[1:] or tuple(node.kwargs.values())) == (1,):
            self._combine(node, masked_cat, node.args[0])
        elif name == "mean" and source in self.masks:
            arguments = fx.map_arg((node.args[1:], node.kwargs), self.new.__getitem__)
            self.new[node] = self.graph.call_function(
                masked_mean, (self.new[source], self.masks[source], *arguments[0]), arguments[1]
            )
        else:
            raise ValueError(f"{where} is not allowed on features under a mask: nothing here stands for it")

    def _name(self, node: fx.Node) -> tuple[str, str, nn.Module | None]:
        """Of what a node calls; the same for a reader; and the module that it is."""
        if node.op != "call_module":
            name = getattr(node.target, "__name__", str(node.target))
            return name, f"operation {name} (node {node.name})", None
        module = self.traced.get_submodule(node.target)
        return type(module).__name__, f"layer {node.target} ({type(module).__name__})", module

    def _has_places(self, node: fx.Node) -> bool:
        """Whether it calls a convolution, a pooling or a batch norm of images."""
        name = self._name(node)[0].lower().replace("_", "")
        return name.endswith(("1d", "2d", "3d")) and any(kind in name for kind in ("conv", "pool", "norm2", "norm3"))

    def _call(self, node: fx.Node, name: str, layer: nn.Module) -> None:
        self.layers[name] = layer
        source = node.args[0]
        self._split(node, self.graph.call_module(name, (self.new[source], self.masks.get(source))))

    def _combine(self, node: fx.Node, function: Callable, terms) -> None:
        parts = []
        for term in terms:
            is_node = isinstance(term, fx.Node)
            parts += [self.new[term] if is_node else term, self.masks.get(term) if is_node else None]
        self._split(node, self.graph.call_function(function, tuple(parts)))

    def _split(self, node: fx.Node, pair: fx.Node) -> None:
        self.new[node], self.masks[node] = (
            self.graph.call_function(operator.getitem, (pair, which)) for which in (0, 1)
        )


def _masked(module: nn.Module, keywords: dict) -> nn.Module | None:
    """This package's layer in its place, None where there is none."""
    name = type(module).__name__
    for kinds in (convolution, normalisation):
        cls = getattr(kinds, f"Sparse{name}", None)
        if cls is not None and type(module) is cls.__bases__[1]:
            return kinds.take_over(cls, module, **(keywords if kinds is convolution else {}))
    cls = getattr(pooling, f"Sparse{name}", None)
    if cls is None or type(module) is not getattr(nn, name):
        return None
    names = cls.__init__.__code__.co_varnames[1 : cls.__init__.__code__.co_argcount]
    return cls(**{each: getattr(module, each) for each in names if hasattr(module, each)})


def masked_sum(a, mask_of_a: Tensor | None, b, mask_of_b: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The sum of those terms that are observed, and where any is. A number, or features without a mask, count
    everywhere and leave the other's mask as it is."""
    if mask_of_a is None or mask_of_b is None:
        return a + b, mask_of_b if mask_of_a is None else mask_of_a
    of_a, of_b = (observed_of(x, mask, x.dim() - 2) for x, mask in ((a, mask_of_a), (b, mask_of_b)))
    return keep_observed(a, of_a) + keep_observed(b, of_b), (of_a | of_b).to(mask_of_a.dtype)


def masked_product(a, mask_of_a: Tensor | None, b, mask_of_b: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The product, and where all factors are observed; a number, or features without a mask, are everywhere."""
    if mask_of_a is None or mask_of_b is None:
        return a * b, mask_of_b if mask_of_a is None else mask_of_a
    of_a, of_b = (observed_of(x, mask, x.dim() - 2) for x, mask in ((a, mask_of_a), (b, mask_of_b)))
    return a * b, (of_a & of_b).to(mask_of_a.dtype)


def masked_cat(*parts: Tensor | None) -> tuple[Tensor, Tensor]:
    """Features and mask of each part in turn, as channels of one; the mask has one for each."""
    features, masks = parts[::2], parts[1::2]
    dtype = next((mask.dtype for mask in masks if mask is not None), torch.bool)
    masks = [
        torch.ones_like(x, dtype=dtype) if mask is None else mask.to(dtype).expand_as(x)
        for x, mask in zip(features, masks, strict=True)
    ]
    return torch.cat(features, 1), torch.cat(masks, 1)


def masked_mean(features: Tensor, mask: Tensor | None, dim, keepdim: bool = False) -> Tensor:
    """The mean over all places of an image, of those observed; 0 where none is."""
    over = [axis % features.dim() for axis in (dim if isinstance(dim, (tuple, list)) else (dim,))]
    if sorted(over) != list(range(2, features.dim())):
        raise ValueError(f"dim={dim!r} is not allowed on features under a mask: all axes but the first two")
    if mask is None:
        return features.mean(over, keepdim)
    observed = observed_of(features, mask, features.dim() - 2)
    count = observed.sum(over, keepdim).clamp(min=1)
    return torch.where(observed, features, 0).sum(over, keepdim) / count
