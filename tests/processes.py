"""Commands in processes of their own that start at once, forked from a process that has imported what they need.

A test that kills `npas-bench` thirty times would otherwise spend most of its time on importing PyTorch thirty times.
"""

import multiprocessing
import os
import signal
import subprocess
import sys

# Neither the command line, whose console takes its width from the environment, nor Ray, which starts threads.
_IMPORTED = [
    "torch",
    "torch._dynamo",
    "sklearn.datasets",
    "npas_bench.runner.driver",
    "npas_bench.runner.execution",
    "npas_bench.forecast.forecast",
    "npas_bench.methods.ssn",
    "npas_bench.methods.full",
    "npas_bench.methods.reduced",
    "npas_bench.tasks.classification.digits",
    "npas_bench.architectures.wrn",
]
# Ray's scaler of clusters, its forwarder of logs and its web interface, as methods of its `Node` that start nothing. No
# run on one machine makes use of them, and each is a process that has to import Ray, as often as a test starts Ray.
WATCHERS_OF_RAY = {
    "start_monitor": lambda _: None,
    "start_log_monitor": lambda _: None,
    "start_api_server": lambda _, **__: None,
}
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(_IMPORTED)


class Started:
    """A started command, with the parts of `subprocess.Popen` that tests use."""

    def __init__(self, process):
        self._process = process
        self.pid = process.pid

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("npas-bench", timeout)
        return self._process.exitcode

    def send_signal(self, number):
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def start(arguments, folder, out, *, heartbeat=None):
    """Start `npas-bench` with these arguments, in a folder and in this process' environment.

    Args:
        arguments: of the command.
        folder: to run in.
        out: file that output and errors are added to.
        heartbeat: seconds between two heartbeats of the driver; left out, as many as it always has.
    """
    given = [str(argument) for argument in arguments], str(folder), str(out), dict(os.environ), heartbeat
    # No daemon: a process that trains together with others has children.
    process = _CONTEXT.Process(target=_run, args=given)
    process.start()
    return Started(process)


def _run(arguments, folder, out, environment, heartbeat):
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    # Pytest may have been started with SIGINT ignored, as a shell does with what it puts in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["npas-bench", *arguments]
    if heartbeat is not None:
        from npas_bench.runner import driver

        driver.HEARTBEAT_SECONDS = heartbeat
    if "ray" in arguments:
        from ray._private.node import Node

        for name, nothing in WATCHERS_OF_RAY.items():
            setattr(Node, name, nothing)
    from npas_bench.cli.main import main

    main(arguments)
