"""The layers of an architecture: the weight tensors that a method may generate.

The weights of convolutions, linear layers, recurrent layers and attention are layers; so are those of the stem, of 1x1
shortcuts and of the classifier. Biases, normalisation and embedding tables (and weights tied to one) are fixed
parameters, which are always there, always counted and never generated.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from npas_bench.torch_internals import is_attention_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # Gives the place of a layer from its name.
    Places = Callable[[str], "Place"]


class Kind(StrEnum):
    """What a layer computes with its weight."""

    CONVOLUTION = "convolution"
    LINEAR = "linear"
    RECURRENT = "recurrent"
    ATTENTION = "attention"


class Place(NamedTuple):
    """Where a layer is in its architecture.

    Attributes:
        stage: the stage that the layer belongs to; empty outside the stages.
        block: the repeated block that the layer is part of; None for layers that do not repeat.
        group: the layer's parameter group in the architecture's manual mapping; None without such a mapping.
    """

    stage: str = ""
    block: str | None = None
    group: int | None = None


class Shaped:
    """Something with the shape of a weight.

    Attributes:
        shape: (out, in) or (out, in, *kernel).
    """

    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of scalars in the weight, |w| in the papers."""
        return math.prod(self.shape)

    @property
    def kernel(self) -> int:
        """Number of positions of the kernel, 1 without one."""
        return math.prod(self.shape[2:])


@dataclass(frozen=True)
class Layer(Shaped):
    """One weight tensor that a method may generate.

    Attributes:
        name: the parameter's dotted name in the architecture.
        kind: what the layer computes with the weight.
        shape: (out, in) or (out, in, *kernel); a transposed convolution has (in, out, *kernel).
        place: the layer's stage, repeated block and manual group.
        transposed: whether the layer is a transposed convolution.
        initial_deviation: standard deviation of the weight at the start, where the architecture sets it.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    place: Place
    transposed: bool = False
    initial_deviation: float | None = None

    @property
    def fan_in(self) -> int:
        """Number of inputs that one output is a sum over."""
        return (self.shape[0] if self.transposed else self.shape[1]) * self.kernel

    @property
    def deviation(self) -> float:
        """Standard deviation of the weight at the start, in a plain network and in a generated one alike.

        An architecture may set it, as transformers do with 0.02 (Devlin et al. 2019). Otherwise it is Kaiming's
        sqrt(2 / fan-in) for convolutions and linear layers (He et al. 2015, eq. 10), sqrt(1 / fan-in) for attention,
        which no rectifier follows, and for recurrent weights the deviation of uniform values in +-1/sqrt(fan-in).
        """
        if self.initial_deviation is not None:
            return self.initial_deviation
        gain = {Kind.ATTENTION: 1.0, Kind.RECURRENT: 1 / 3}.get(self.kind, 2.0)
        return math.sqrt(gain / self.fan_in)


class Site(NamedTuple):
    """A module's attribute that holds a layer's weight.

    Attributes:
        owner: the module.
        attribute: name of the attribute.
        layer: name of the layer.
    """

    owner: nn.Module
    attribute: str
    layer: str


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ATTENTION_WEIGHTS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


def _offered(module: nn.Module) -> tuple[Kind, list[str]] | None:
    if isinstance(module, (*_CONVOLUTIONS, *_TRANSPOSED)):
        return Kind.CONVOLUTION, ["weight"]
    if is_attention_output(module):
        return Kind.ATTENTION, ["weight"]
    if isinstance(module, nn.Linear):
        return Kind.LINEAR, ["weight"]
    if isinstance(module, nn.MultiheadAttention):
        return Kind.ATTENTION, list(_ATTENTION_WEIGHTS)
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return Kind.RECURRENT, [name for name, _ in module.named_parameters(recurse=False) if "weight" in name]
    return None


def find_layers(module: nn.Module, places: Places | None = None) -> tuple[Layer, ...]:
    """The layers that `module` offers to a method, in the order of its modules.

    A weight that several modules share is one layer, under the first of its names.

    Args:
        module: any module, on any device.
        places: gives a layer's place from its name. Without it, the children of a container (`nn.Sequential` or
            `nn.ModuleList`) that are alike count as repeated blocks, and there are no manual groups.
    """
    places = places or _PlacesByContainer(module)
    found: dict[str, Layer] = {}
    for site, kind in _sites(module):
        if site.layer not in found:
            weight = getattr(site.owner, site.attribute)
            found[site.layer] = Layer(
                name=site.layer,
                kind=kind,
                shape=tuple(weight.shape),
                place=places(site.layer),
                transposed=isinstance(site.owner, _TRANSPOSED),
            )
    return tuple(found.values())


def find_sites(module: nn.Module) -> list[Site]:
    """All attributes of modules that hold a layer's weight; a weight that is shared has several."""
    return [site for site, _ in _sites(module)]


def _sites(module: nn.Module) -> Iterator[tuple[Site, Kind]]:
    embeddings = [m for m in module.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
    fixed = {id(parameter) for embedding in embeddings for parameter in embedding.parameters()}
    first_name: dict[int, str] = {}
    for path, owner in module.named_modules():
        offered = _offered(owner)
        if offered is None:
            continue
        kind, attributes = offered
        own = dict(owner.named_parameters(recurse=False, remove_duplicate=False))
        for attribute in attributes:
            weight = own.get(attribute)
            if weight is None or id(weight) in fixed:
                continue
            name = first_name.setdefault(id(weight), f"{path}.{attribute}" if path else attribute)
            yield Site(owner, attribute, name), kind


class _PlacesByContainer:
    """Takes the outermost container whose children are alike for a layer's stage and repeated block."""

    def __init__(self, module: nn.Module) -> None:
        self._block: dict[str, str] = {}
        for path, container in module.named_modules():
            if not isinstance(container, nn.Sequential | nn.ModuleList):
                continue
            alike: dict[tuple[object, ...], list[str]] = defaultdict(list)
            for name, child in container.named_children():
                shapes = tuple((key, tuple(p.shape)) for key, p in child.named_parameters())
                if shapes:
                    alike[(type(child), shapes)].append(name)
            for siblings in alike.values():
                if len(siblings) > 1:
                    self._block |= {f"{path}.{name}" if path else name: path for name in siblings}

    def __call__(self, layer: str) -> Place:
        parts = layer.split(".")
        for depth in range(1, len(parts)):
            container = self._block.get(".".join(parts[:depth]))
            if container is not None:
                return Place(stage=container, block=container)
        return Place()
