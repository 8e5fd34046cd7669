"""A process in which everything is imported, and which forks one process for every command that a test runs.

A command is as apart from another as with an interpreter of its own, at a tenth of the cost: its own folder,
environment, module path, process group and worker processes. What must be seen from its first import on, as signals
while it starts, is for `Project.start`.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import Any

#: what steps and tasks import when they run
_LIBRARIES = (
    *("torch", "onnx", "onnxruntime", "onnxscript", "onnxslim", "safetensors.torch", "rich.table", "soundfile"),
    *("hydra._internal.hydra", "hydra._internal.core_plugins.basic_launcher", "networkx", "antlr4.LL1Analyzer"),
)
_PACKAGES = ("autovoice.steps", "autovoice.tasks", "autovoice.config", "autovoice.command", "autovoice.publish")
_OWN = ("autovoice.cli", "autovoice.backends.onnxruntime.backend", "autovoice.onnx_tools.lowering.explicit")
#: bytes of a number between the two processes
_HEAD = 8
#: the shipped configuration's
OPSET = 18
#: `multiprocessing` runs it after a fork; here its first import would tell a worker apart from an interpreter's
_LATER = "autovoice.execution.fork_server"


@functools.cache
def warm() -> Warm:
    """The one of this test process, started when it is first asked for; it ends with it."""
    return Warm()


class Warm:
    """The process, and the commands it runs."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._lock = threading.Lock()
        command = [sys.executable, __file__, str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()

    def run(
        self, arguments: Sequence[str], root: Path, environment: Mapping[str, str], timeout: float
    ) -> tuple[int, str, str]:
        """(exit code, stdout, stderr) of `python -m autovoice`; the code of one that a signal ended is negative."""
        request = {"arguments": list(arguments), "root": str(root), "environment": dict(environment)}
        pipes = [os.pipe() for _ in range(3)]  # stdout, stderr, exit code
        try:
            pid = self._forked(json.dumps(request).encode(), [w for _, w in pipes])
        finally:
            for _, write in pipes:
                os.close(write)
        out, err, ended = _read_all([r for r, _ in pipes], time.monotonic() + timeout, pid)
        return int(ended), out.decode(), err.decode()

    def _forked(self, request: bytes, files: Sequence[int]) -> int:
        with self._lock:
            socket.send_fds(self._socket, [len(request).to_bytes(_HEAD, "big")], files)
            self._socket.sendall(request)
            return int.from_bytes(_received(self._socket, _HEAD), "big")


def _received(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        piece = connection.recv(size - len(content))
        if not piece:
            raise EOFError("the process that runs commands has ended")
        content += piece
    return content


def _read_all(files: Sequence[int], end: float, pid: int) -> list[bytes]:
    """All that comes from these pipes until nobody holds their other ends."""
    found: dict[int, bytes] = dict.fromkeys(files, b"")
    with selectors.DefaultSelector() as selector:
        for file in files:
            selector.register(file, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, end - time.monotonic()))
            if not ready:
                os.killpg(pid, signal.SIGKILL)
                raise TimeoutError(f"a command took too long; it had said {found}")
            for key, _ in ready:
                piece = os.read(key.fd, 1 << 16)
                found[key.fd] += piece
                if not piece:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    return list(found.values())


# -- the process itself ----------------------------------------------------------------------------


def _serve(connection: socket.socket, base: Sequence[str]) -> None:
    """Fork for every request, until whoever asks is gone."""
    while True:
        head, files, _, _ = socket.recv_fds(connection, _HEAD, 3)
        if not head:
            return
        request = json.loads(_received(connection, int.from_bytes(head, "big")))
        pid = os.fork()
        if pid == 0:
            connection.close()
            _watch(request, files, base)
        for file in files:
            os.close(file)
        connection.sendall(pid.to_bytes(_HEAD, "big"))
        _reap()


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _watch(request: Mapping[str, Any], files: Sequence[int], base: Sequence[str]) -> None:
    """Run the command in a child, and say how it ended."""
    os.setsid()
    out, err, ended = files
    pid = os.fork()
    if pid == 0:
        os.close(ended)
        _command(request, out, err, base)
    os.close(out)
    os.close(err)
    _, status = os.waitpid(pid, 0)
    os.write(ended, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _command(request: Mapping[str, Any], out: int, err: int, base: Sequence[str]) -> None:
    code: int = 1
    try:
        _apart(request, out, err, base)
        _lend_server()
        try:
            runpy.run_module("autovoice", run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else int(e.code is not None)
        except BaseException:
            traceback.print_exc()
        _finish()
    finally:
        os._exit(code)


def _finish() -> None:
    """As an interpreter ends, but for freeing what it holds."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError):
            stream.flush()


def _apart(request: Mapping[str, Any], out: int, err: int, base: Sequence[str]) -> None:
    """Folder, environment, path and files of the command's own, and signals as an interpreter starts with."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir(request["root"])
    os.environ.clear()
    os.environ.update(request["environment"])
    path = os.environ.get("PYTHONPATH", "")
    sys.path[:] = [os.getcwd(), *(p for p in path.split(os.pathsep) if p), *base]
    tempfile.tempdir = None  # of that environment
    sys.argv = ["autovoice", *request["arguments"]]
    with open(os.devnull) as nothing:
        for number, fd in enumerate((nothing.fileno(), out, err)):
            os.dup2(fd, number)
    os.close(out)
    os.close(err)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115


def _lend_server() -> None:
    """The fork server of a command's workers, forked now while there is one thread; it waits until it is asked for."""
    from multiprocessing import util

    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _be_server(theirs)
    theirs.close()
    really = util.spawnv_passfds
    lent = [pid]

    def spawnv_passfds(path: bytes, arguments: Sequence[str], passed: Sequence[int]) -> int:
        if not lent or "multiprocessing.forkserver" not in arguments[-1]:
            return int(really(path, arguments, passed))
        socket.send_fds(ours, [json.dumps([arguments[-1], list(passed)]).encode()], list(passed))
        ours.close()
        return lent.pop()

    util.spawnv_passfds = spawnv_passfds


def _be_server(connection: socket.socket) -> None:
    """What `python -c` would do with the code it is given, in files of the same numbers."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))  # they find it ready, as ever
    try:
        content, files, _, _ = socket.recv_fds(connection, 1 << 16, 16)
        connection.close()
        if content:
            code, numbers = json.loads(content)
            _renumber(files, numbers)
            exec(code, {"__name__": "__main__"})
        _finish()
    except SystemExit:
        _finish()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _renumber(files: Sequence[int], numbers: Sequence[int]) -> None:
    high = [os.dup2(fd, 200 + i) for i, fd in enumerate(files)]
    for fd in files:
        os.close(fd)
    for fd, number in zip(high, numbers, strict=True):
        os.dup2(fd, number)
        os.close(fd)


def _preload() -> None:
    for name in (*_LIBRARIES, *_OWN):
        importlib.import_module(name)
    for name in _PACKAGES:
        for found in pkgutil.iter_modules(importlib.import_module(name).__path__):
            importlib.import_module(f"{name}.{found.name}")
    _export_once()
    assert _LATER not in sys.modules
    assert threading.active_count() == 1, "a fork would copy what other threads hold"


def _export_once() -> None:
    """Torch imports much when it first exports, and makes its table of translations every time: here once for all."""
    import torch
    from torch.onnx._internal.exporter._registration import ONNXRegistry
    from tqdm import tqdm

    really = ONNXRegistry.from_torchlib
    tables: dict[int, ONNXRegistry] = {}

    def from_torchlib(cls: type[ONNXRegistry], opset_version: int = OPSET) -> ONNXRegistry:
        if opset_version not in tables:
            tables[opset_version] = really(opset_version)
        copy = cls()
        copy._opset_version = opset_version
        copy.functions = {name: list(found) for name, found in tables[opset_version].functions.items()}
        return copy

    ONNXRegistry.from_torchlib = classmethod(from_torchlib)
    tqdm.monitor_interval = 0  # else it starts a thread
    model = torch.nn.Linear(2, 2).eval()
    shapes = ({0: torch.export.Dim("n")},)
    with warnings.catch_warnings(), open(os.devnull, "w") as nothing, redirect_stderr(nothing):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.zeros(3, 2),), dynamo=True, dynamic_shapes=shapes, opset_version=OPSET, verbose=False
        )


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever asks; without it this process ends too
    del sys.path[0]
    _base = list(sys.path)
    _preload()
    gc.collect()
    gc.freeze()  # so that no child copies memory to look through it
    _serve(socket.socket(fileno=int(sys.argv[1])), _base)
