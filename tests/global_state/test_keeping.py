"""Whatever a block of code changes of the global state is set back, and told by name."""

import gc
import io
import locale
import logging
import os
import random
import resource
import signal
import sys
import types
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torch import nn
from torch.nn import functional

from npas_bench.global_state.keeping import kept
from npas_bench.global_state.switches import Generators
from npas_bench.tasks.classification import base
from npas_bench.torch_internals import TorchDispatchMode
from npas_bench.training import loop

_entered = []


def enter(context):
    """Enter a context and never leave it."""
    _entered.append(context)
    context.__enter__()


def exchange_code():
    functional.relu.__code__ = (lambda input, inplace=False: input).__code__


def exchange_innermost():
    step = torch.optim.SGD.step
    while hasattr(step, "__wrapped__"):
        step = step.__wrapped__
    step.__code__ = (lambda self, closure=None: None).__code__


def lower(limit):
    soft, hard = resource.getrlimit(limit)
    resource.setrlimit(limit, (2**40 if soft == resource.RLIM_INFINITY else soft - 1, hard))


def as_a_module(functions):
    copy = types.ModuleType("copy")
    vars(copy).update(vars(functions), cross_entropy=functions.mse_loss)
    return copy


COMPUTING = {
    "torch.backends.mkldnn.enabled": lambda: setattr(torch.backends.mkldnn, "enabled", False),
    "torch.backends.mkldnn.deterministic": lambda: setattr(torch.backends.mkldnn, "deterministic", True),
    "torch.backends.cudnn.benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "torch.backends.cudnn.deterministic": lambda: setattr(torch.backends.cudnn, "deterministic", True),
    "torch.backends.nnpack": lambda: torch.backends.nnpack.set_flags(False),
    "torch.backends.mha.get_fastpath_enabled": lambda: torch.backends.mha.set_fastpath_enabled(False),
    "torch.backends.cuda.math_sdp_enabled": lambda: torch.backends.cuda.enable_math_sdp(False),
    "torch.backends.cuda.matmul.allow_fp16_accumulation": lambda: setattr(
        torch.backends.cuda.matmul, "allow_fp16_accumulation", True
    ),
    "torch's default dtype": lambda: torch.set_default_dtype(torch.float64),
    "torch's default device": lambda: torch.set_default_device("meta"),
    "torch's grad mode": lambda: torch.set_grad_enabled(False),
    "torch's deterministic algorithms": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "torch.utils.deterministic.fill_uninitialized_memory": lambda: setattr(
        torch.utils.deterministic, "fill_uninitialized_memory", False
    ),
    "torch's number of threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "torch's flushing of denormal numbers": lambda: torch.set_flush_denormal(True),
    "torch's autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "torch's anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "torch's precision of float32 arithmetic": lambda: torch.set_float32_matmul_precision("medium"),
    "torch's hooks on every module": lambda: nn.modules.module.register_module_forward_hook(lambda *_: None),
    "torch's saved-tensor hooks": lambda: enter(torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x)),
    "numpy's handling of floating-point errors": lambda: np.seterr(all="raise"),
    "the locale": lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8" if locale.setlocale(locale.LC_ALL) == "C" else "C"),
    "the environment (OMP_DYNAMIC)": lambda: os.environ.update(OMP_DYNAMIC="TRUE"),
    "torch.nn.functional.relu": lambda: setattr(functional, "relu", lambda x, inplace=False: x),
    "torch.Tensor.relu_": lambda: setattr(torch.Tensor, "relu_", lambda self: self),
    "torch.nn.init.kaiming_normal_": lambda: setattr(nn.init, "kaiming_normal_", nn.init.zeros_),
    "torch.nn.modules.conv.Conv2d.forward": lambda: setattr(nn.Conv2d, "forward", lambda self, x: x),
    "torch.nn.modules.linear.Linear.__call__": lambda: setattr(nn.Linear, "__call__", lambda self, x: x),
    "torch.optim.sgd.SGD.step": lambda: setattr(torch.optim.SGD, "step", lambda self: None),
    "npas_bench.training.loop.train_epoch": lambda: setattr(loop, "train_epoch", None),
    "torch.optim.sgd.sgd": lambda: setattr(sys.modules["torch.optim.sgd"], "sgd", lambda *_, **__: None),
    "torch._C._nn.cross_entropy_loss": lambda: setattr(torch._C._nn, "cross_entropy_loss", torch._C._nn.mse_loss),
    "torch.nn.modules.conv.F": lambda: setattr(nn.modules.conv, "F", as_a_module(functional)),
    "npas_bench.tasks.classification.base.functional": lambda: setattr(base, "functional", as_a_module(functional)),
    "PIL.ImageFile.LOAD_TRUNCATED_IMAGES": lambda: setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True),
    "PIL.Image.MAX_IMAGE_PIXELS": lambda: setattr(Image, "MAX_IMAGE_PIXELS", None),
    "random.random": lambda: setattr(random, "random", lambda: 0.0),
}
PROCESS = {
    "the environment (SOME_NAME)": lambda: os.environ.update(SOME_NAME="1"),
    "the environment (PATH)": lambda: os.environ.update(PATH="/nowhere"),
    "the working directory": lambda: os.chdir("/"),
    "Python's handling of signals (SIGUSR1)": lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    "Python's warning filters": lambda: warnings.simplefilter("error"),
    "Python's path of modules": lambda: sys.path.insert(0, "/nowhere"),
    "Python's garbage collection": gc.disable,
    "Python's logging": lambda: logging.disable(logging.INFO),
    "Python's limit of recursion": lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 100),
    "the standard streams (stdout)": lambda: setattr(sys, "stdout", io.StringIO()),
    "the timers of the process (ITIMER_PROF)": lambda: signal.setitimer(signal.ITIMER_PROF, 1000),
    "the signals that are held back": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]),
    "the limits of the process (RLIMIT_FSIZE)": lambda: lower(resource.RLIMIT_FSIZE),
    "the limits of the process (RLIMIT_NOFILE)": lambda: lower(resource.RLIMIT_NOFILE),
    "the permissions of new files": lambda: os.umask(0o777),
}


@pytest.mark.parametrize(("name", "change"), [*COMPUTING.items(), *PROCESS.items()], ids=[*COMPUTING, *PROCESS])
def test_a_change_is_set_back_and_named(name, change):
    with kept() as changes:
        change()
    assert name in changes.names
    assert changes.lost == []
    assert changes.computing == (name in COMPUTING)
    with kept() as again:
        pass
    assert not again
    if name in COMPUTING:
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).requires_grad


@pytest.mark.parametrize(
    "context",
    [lambda: torch.device("meta"), lambda: torch.autocast("cpu", torch.bfloat16), TorchDispatchMode],
    ids=["device", "autocast", "dispatch"],
)
def test_a_context_that_is_never_left_is_left(context):
    with kept() as changes:
        enter(context())
    assert "torch's modes of functions, dispatch or autocast" in changes.names
    assert torch.mm(torch.ones(1, 1), torch.ones(1, 1)).dtype == torch.float32
    with kept() as again:
        pass
    assert not again


def test_code_that_is_exchanged_inside_a_function_is_put_back():
    with kept() as changes:
        exchange_code()
    assert changes.names == ["torch.nn.functional.relu"]
    assert functional.relu(torch.tensor(-1.0)) == 0


def test_code_that_is_exchanged_inside_what_a_function_wraps_is_put_back():
    with kept() as changes:
        exchange_innermost()
    assert changes.names == ["torch.optim.sgd.SGD.step"]
    weight = nn.Parameter(torch.ones(1))
    weight.grad = torch.ones(1)
    torch.optim.SGD([weight], lr=0.5).step()
    assert weight.item() == 0.5


def enclosing(inner):
    def outer():
        return inner()

    return outer


def test_a_function_that_another_one_encloses_is_put_back(monkeypatch):
    monkeypatch.setattr(loop, "enclosing", enclosing(lambda: "before"), raising=False)
    with kept() as changes:
        loop.enclosing.__closure__[0].cell_contents = lambda: "after"
    assert changes.names == ["npas_bench.training.loop.enclosing"]
    assert loop.enclosing() == "before"


def test_a_timer_that_was_running_runs_on():
    signal.setitimer(signal.ITIMER_PROF, 1000, 500)
    try:
        with kept() as changes:
            signal.setitimer(signal.ITIMER_PROF, 0)
        left, interval = signal.getitimer(signal.ITIMER_PROF)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    assert changes.names == ["the timers of the process (ITIMER_PROF)"]
    assert 900 < left <= 1000
    assert interval == 500


def test_how_pictures_are_decoded_is_as_pillow_has_it_where_a_block_imports_pillow_first(monkeypatch):
    for name in ("PIL.Image", "PIL.ImageFile"):
        monkeypatch.delitem(sys.modules, name)
    with kept(importing=True) as changes:
        monkeypatch.setitem(sys.modules, "PIL.Image", Image)
        monkeypatch.setitem(sys.modules, "PIL.ImageFile", ImageFile)
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert changes.names == ["PIL.ImageFile.LOAD_TRUNCATED_IMAGES"]
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_a_limit_that_cannot_be_raised_again_is_told_as_lost(monkeypatch):
    limits = {resource.RLIMIT_CORE: (500, 1000)}
    get_limit = resource.getrlimit

    def refusing(number, value):
        if value[1] > limits[number][1]:
            raise ValueError("not allowed to raise maximum limit")
        limits[number] = value

    monkeypatch.setattr(resource, "getrlimit", lambda number: limits.get(number) or get_limit(number))
    monkeypatch.setattr(resource, "setrlimit", refusing)
    with kept() as changes:
        limits[resource.RLIMIT_CORE] = (100, 300)
    assert changes.lost == ["the limits of the process (RLIMIT_CORE)"]
    assert limits[resource.RLIMIT_CORE] == (300, 300)


def test_generators_draw_the_same_afterwards_as_without_the_block():
    def draw():
        return random.gauss(), np.random.rand(), torch.rand(1).item()

    with kept():
        expected = draw()
    with kept() as changes:
        random.seed(3)
        np.random.seed(3)
        torch.manual_seed(3)
    assert draw() == expected
    assert not changes


def test_what_cannot_be_set_back_is_told_as_lost():
    with kept() as changes:
        mode = torch.inference_mode()
        mode.__enter__()
    assert changes.lost == ["torch's inference mode"]
    mode.__exit__(None, None, None)

    library = torch.library.Library("aten", "IMPL")
    try:
        with kept() as changes:
            library.impl("cosh", lambda x: x, "AutogradCUDA")
        assert changes.lost == ["torch's kernels of operators (aten/cosh/AutogradCUDA)"]
    finally:
        library._destroy()


def broken(*_):
    raise RuntimeError("the GPU is broken")


def test_what_fails_while_it_is_set_back_is_told_as_lost_and_keeps_nothing_else_from_it(monkeypatch):
    monkeypatch.setattr(Generators, "put_back", broken)
    with kept() as changes:
        torch.set_default_dtype(torch.float64)
    assert changes.lost == ["generators of random numbers (the GPU is broken)"]
    assert "torch's default dtype" in changes.names
    assert torch.get_default_dtype() == torch.float32


def test_a_switch_that_a_build_of_torch_lacks_is_left_out(monkeypatch):
    monkeypatch.setattr(torch, "get_default_dtype", broken)
    with kept() as changes:
        torch.set_grad_enabled(False)
    assert changes.names == ["torch's grad mode"]


def test_everything_is_set_back_after_an_exception_too():
    with pytest.raises(KeyboardInterrupt), kept():
        torch.set_default_dtype(torch.float64)
        raise KeyboardInterrupt
    assert torch.get_default_dtype() == torch.float32


def test_what_libraries_rely_on_stays_after_an_import(monkeypatch):
    monkeypatch.delenv("SOME_NAME", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with kept(importing=True) as changes:
        os.environ["SOME_NAME"] = "1"
        os.environ["MKL_CBWR"] = "COMPATIBLE"
        sys.path.append("/nowhere")
        torch.set_default_dtype(torch.float64)
    assert changes.names == ["torch's default dtype", "the environment (MKL_CBWR)"]
    assert os.environ.pop("SOME_NAME") == "1"
    assert "/nowhere" in sys.path


def test_ordinary_use_of_torch_is_no_change():
    with kept() as changes:
        network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True))
        optimiser = torch.optim.RMSprop(network.parameters())
        with torch.autocast("cpu", torch.bfloat16), torch.random.fork_rng(), torch.device("cpu"):
            network(torch.ones(1, 1, 4, 4)).sum().backward()
        optimiser.step()
        with torch.no_grad(), torch.inference_mode():
            network.eval()(torch.ones(1, 1, 4, 4))
        torch.manual_seed(0)
        os.environ["KMP_INIT_AT_FORK"] = "FALSE"
    assert not changes
