"""The devices that cells run on."""

from __future__ import annotations

import platform

from npas_bench.errors import DeviceError


def resolve_device(wanted: str, *, elsewhere: bool = False) -> str:
    """`cpu`, `cuda` or `cuda:N` for what a user asked for; `auto` takes a GPU where there is one.

    Args:
        wanted: the device as the user wrote it.
        elsewhere: whether cells run on other machines too, whose GPUs are not visible here.

    Raises:
        DeviceError: if this machine has no such device.
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        return "cuda" if gpus else "cpu"
    if wanted == "cpu":
        return wanted
    name, _, index = wanted.partition(":")
    if name != "cuda" or (index and not index.isdecimal()) or wanted.endswith(":"):
        raise DeviceError(f"device '{wanted}' is not known: use auto, cpu, cuda or cuda:N")
    if elsewhere and not index:
        return wanted
    if not gpus:
        raise DeviceError(f"device '{wanted}': this machine has no GPU that PyTorch can use; use --device cpu")
    if index and int(index) >= gpus:
        raise DeviceError(f"device '{wanted}': this machine has {gpus} GPUs, cuda:0 to cuda:{gpus - 1}")
    return wanted


def device_class(device: str) -> str:
    """The class of a device, `cpu` or `cuda`: there is one finished run for each cell, data and class."""
    return "cuda" if device.startswith("cuda") else "cpu"


def describe_device(device: str) -> str:
    """The device's own name, for provenance."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        # The GPU is on another machine, which will tell its name.
        return "cuda"
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()
