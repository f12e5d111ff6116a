"""Files of weights in the safetensors format: named tensors, and a header that says what they are and how to load them.

There are two kinds. A file of trained parameters holds what a method trained, and is loaded into a network that is
built as the run built its own. A plain file holds the state dict of the plain network that these parameters generate,
and needs nothing but torch and safetensors to be loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from npas_bench.errors import StorageError, WeightsError
from npas_bench.network import state_tensors
from npas_bench.torch_internals import storage_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from npas_bench.network import Network

FORMAT = "npas-bench weights 1"
_CHUNK_BYTES = 2**20
_PARSED = ("structure", "aliases", "normalisation", "versions")


class WeightsKind(StrEnum):
    """What a file of weights holds."""

    TRAINED = "trained"
    PLAIN = "plain"


class WeightsHeader(BaseModel):
    """What a file of weights says about itself, in the metadata of the safetensors format.

    Attributes:
        format: name and version of this header.
        kind: what the file holds.
        load: how to load it, in words.
        run: uid of the run that trained the weights.
        identity: sha256 of `cell`, in hexadecimal.
        cell: canonical JSON of the cell: task, architecture, method, options, budget, recipe, seed.
        task: name of the task.
        architecture: name of the architecture.
        method: name of the method, with its options.
        data: label of the data that the weights were trained on.
        data_digest: sha256 of that data, in hexadecimal.
        structure: what the method's search or refinement decided; a network cannot be built again without it.
        aliases: names of tensors that are other tensors of the file, each with the name that the file has it under.
        normalisation: what the network's inputs were normalised with; None if the task does not say.
        versions: of Python and the packages that computed the weights.
    """

    model_config = ConfigDict(frozen=True)

    format: str = FORMAT
    kind: WeightsKind
    load: str = ""
    run: str
    identity: str
    cell: str
    task: str
    architecture: str
    method: str
    data: str
    data_digest: str
    structure: dict[str, Any] = {}
    aliases: dict[str, str] = {}
    normalisation: dict[str, Any] | None = None
    versions: dict[str, str] = {}

    def as_metadata(self) -> dict[str, str]:
        """The header as the format has it: a text for each name, which is JSON where the value is no text."""
        fields = self.model_dump(mode="json", exclude_none=True)
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, str]) -> Self:
        """The header in a file's metadata.

        Raises:
            ValueError: if it is no header of this format.
        """
        if metadata.get("format") != FORMAT:
            raise ValueError(f"its header does not say '{FORMAT}'")
        fields = {name: json.loads(text) if name in _PARSED else text for name, text in metadata.items()}
        return cls.model_validate(fields)


class Weights(NamedTuple):
    """Named tensors on the CPU, and what they are."""

    header: WeightsHeader
    tensors: dict[str, Tensor]


class WrittenFile(NamedTuple):
    """A file that was written.

    Attributes:
        sha256: digest of its content, in hexadecimal.
        bytes: its size.
    """

    sha256: str
    bytes: int


def trained_weights(network: Network, header: WeightsHeader) -> Weights:
    """What a network's method trained: parameters and buffers, with a storage that has several names only once."""
    tensors: dict[str, Tensor] = {}
    names: dict[object, str] = {}
    aliases: dict[str, str] = {}
    for name, tensor in _held(network).items():
        place = (storage_key(tensor), tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        if place in names:
            aliases[name] = names[place]
        else:
            names[place] = name
            tensors[name] = _alone(tensor)
    load = "npas_bench.runner.kept.rebuild_network(cell, npas_bench.weights_file.read_weights(FILE)) builds the network"
    changes = {"kind": WeightsKind.TRAINED, "aliases": aliases, "structure": network.structure(), "load": load}
    return Weights(header.model_copy(update=changes), tensors)


def plain_weights(module: torch.nn.Module, header: WeightsHeader) -> Weights:
    """The state dict of a plain network, with every name that it has."""
    load = (
        "build a torch module of this architecture whose state dict has the names of these tensors, then "
        "module.load_state_dict(safetensors.torch.load_file(FILE)) and module.eval()"
    )
    changes = {"kind": WeightsKind.PLAIN, "aliases": {}, "structure": {}, "load": load}
    tensors = {name: _alone(tensor) for name, tensor in module.state_dict().items()}
    return Weights(header.model_copy(update=changes), tensors)


@torch.no_grad()
def fill_network(network: Network, weights: Weights) -> None:
    """Write trained weights into a network that was built with the structure that their header holds.

    Raises:
        WeightsError: if they are not of a network that is built like this one.
    """
    tensors = weights.tensors | {name: weights.tensors[kept] for name, kept in weights.header.aliases.items()}
    held = _held(network)
    wrong = sorted(held.keys() ^ tensors.keys()) or [n for n in held if held[n].shape != tensors[n].shape]
    if weights.header.kind is not WeightsKind.TRAINED or wrong:
        raise WeightsError(
            f"the {weights.header.kind} weights of run {weights.header.run} do not fit the network of "
            f"{weights.header.method} that is built here{f': {wrong[0]} differs' if wrong else ''}"
        )
    for name, tensor in held.items():
        tensor.copy_(tensors[name])


def write_weights(path: Path, weights: Weights) -> WrittenFile:
    """Write a file of weights; a crash leaves the whole file or none.

    Args:
        path: the file, which is replaced if it exists; its folder is made if it does not.
        weights: what to write.

    Raises:
        StorageError: if it cannot be written.
    """
    from safetensors.torch import save

    # Made in memory: what the library writes by itself can be read by its owner alone.
    return _write(path, save(weights.tensors, weights.header.as_metadata()))


def copy_weights(source: Path, path: Path) -> WrittenFile:
    """Copy a file of weights, byte for byte, as `write_weights` writes one.

    Raises:
        StorageError: if it cannot be read or written.
    """
    try:
        return _write(path, source.read_bytes())
    except OSError as error:
        raise StorageError(f"the weights {source} cannot be read: {error}") from error


def _write(path: Path, content: bytes) -> WrittenFile:
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StorageError(f"the weights {path} cannot be written: {error}") from error
    return WrittenFile(hashlib.sha256(content).hexdigest(), len(content))


def measure_file(path: Path) -> WrittenFile:
    """The digest and the size of a file.

    Raises:
        OSError: if it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return WrittenFile(digest.hexdigest(), size)


def read_header(path: Path) -> WeightsHeader:
    """What a file of weights says about itself.

    Raises:
        WeightsError: as `read_weights` does.
    """
    return _read(path, tensors=False).header


def read_weights(path: Path) -> Weights:
    """Read a file of weights, onto the CPU.

    Raises:
        WeightsError: if there is no such file, it is cut short, or it is no file of this format.
    """
    return _read(path, tensors=True)


def _read(path: Path, *, tensors: bool) -> Weights:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = WeightsHeader.of_metadata(file.metadata() or {})
            return Weights(header, {name: file.get_tensor(name) for name in file.keys()} if tensors else {})  # noqa: SIM118
    except FileNotFoundError:
        raise WeightsError(f"the file of weights {path} does not exist") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is cut short, or no safetensors file at all: {error}") from None
    except (ValueError, ValidationError) as error:
        reason = "its header is incomplete" if isinstance(error, ValidationError) else error
        raise WeightsError(f"{path} is no file of weights that npas-bench wrote: {reason}") from None


def _held(network: Network) -> dict[str, Tensor]:
    """The state dict, and the tensors outside it that training may change."""
    held: dict[str, Tensor] = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    return held | {name: tensor for name, tensor in state_tensors(network).items() if name not in held}


def _alone(tensor: Tensor) -> Tensor:
    """The tensor on the CPU, contiguous, in a storage that it shares with no other."""
    tensor = tensor.detach().cpu()
    fills = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
    return tensor if fills else tensor.clone(memory_format=torch.contiguous_format)
