"""Run Python commands in forks of a server process that has already imported torch. This saves two seconds per command.

`python_command()` returns an executable, the client, which replaces `python`. The client passes its arguments,
environment, current folder and standard streams to the server. The server forks a process for the command, the job. In
the job, `sys.executable` is the client too, so that drivers and torchrun also start their processes as forks. The job
runs in the network namespace of the client, and `os.getppid()` returns the parent of the client. The name of the
client's process is the process id of the job. The server computes nothing before a fork, so that torch has not started
threads, which a fork would lose.

A command runs in a new interpreter if it begins with an option other than -m and -u. On systems other than Linux, all
commands run in a new interpreter.
"""

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import multiprocessing.process
import os
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path

SOCKET = "GAITSET_FORK_SERVER"
LIBRARIES = (
    "torch", "torch._dynamo", "torch.distributed.run", "torch.nn.parallel.distributed", "torch.utils.tensorboard",
    "cv2", "onnx", "scipy.stats", "jinja2", "matplotlib.figure", "sklearn.manifold",
)  # fmt: skip


@functools.cache
def python_command() -> str:
    """Start the fork server of this process at the first call, and return the path of the client."""
    import subprocess
    import tempfile

    if not sys.platform.startswith("linux"):
        return sys.executable
    folder = tempfile.TemporaryDirectory(prefix="forks-")
    client, address = Path(folder.name, "python"), Path(folder.name, "socket")
    client.write_text(f'#!/bin/sh\n{SOCKET}="{address}" exec "{sys.executable}" -I -S "{__file__}" "$@"\n')
    client.chmod(0o755)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    # The test that starts the server may have set PYTHONPATH. The jobs of later tests must not inherit this variable.
    environment.pop("PYTHONPATH", None)
    server = subprocess.Popen(
        [sys.executable, __file__, str(address), str(client)], env=environment, cwd="/", stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip

    def close() -> None:
        server.stdin.close()  # ends the server. The system closes the pipe too if this process is killed.
        server.wait()
        folder.cleanup()

    atexit.register(close)
    assert server.stdout.readline(), "the fork server has failed"
    return str(client)


def _client() -> int:
    """Let the server run the command as a job, forward signals to the job, and return its exit status."""
    address, words = os.environ.pop(SOCKET), sys.argv[1:]
    while words[:1] == ["-u"]:
        del words[0]
    if not words or (words[0].startswith("-") and words[0] != "-m") or "PYTHONSAFEPATH" in os.environ:
        os.execv(sys.executable, [sys.executable, *words])
    server = socket.socket(socket.AF_UNIX)
    server.connect(address)
    request = json.dumps([words, dict(os.environ), str(Path.cwd()), os.getppid()]).encode()
    network = os.open("/proc/self/ns/net", os.O_RDONLY)
    socket.send_fds(server, [f"{len(request):10}".encode()], [0, 1, 2, network])
    server.sendall(request)
    answers = server.makefile()
    job = int(answers.readline())
    Path("/proc/self/comm").write_text(str(job))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(job, number))
    status = int(answers.readline())
    if status < 0:  # a signal has ended the job, so this process ends by the same signal
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    return status


def _serve(address: str, client: str) -> None:
    """Fork a job for each client, and report the job's exit status to the client. A job never returns from here."""
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):  # a command that needs a missing package reports the error itself
            importlib.import_module(name)
    gc.freeze()  # exclude the objects of these libraries from garbage collections in the jobs
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen(64)
    jobs: dict[int, tuple[int, socket.socket]] = {}  # by the file descriptor of a job: its process id and its client
    print("ready", flush=True)
    while True:
        clients = [connection for _, connection in jobs.values()]
        ready = select.select([server, sys.stdin, *jobs, *clients], [], [])[0]
        if sys.stdin in ready:
            return
        for process, (job, connection) in list(jobs.items()):
            if process in ready:
                del jobs[process]
                os.close(process)
                with contextlib.suppress(BrokenPipeError):
                    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(job, 0)[1]))
                connection.close()
            elif connection in ready:  # the client was killed
                os.kill(job, signal.SIGKILL)
        if server in ready:
            connection = server.accept()[0]
            size, streams, *_ = socket.recv_fds(connection, 10, 4)
            request = connection.makefile("rb").read(int(size or 0))
            # If the request is incomplete, the client was killed, and there is no job.
            job = os.fork() if size and len(request) == int(size) else None
            if job == 0:
                for inherited in (server, connection, *clients):
                    inherited.close()
                for process in jobs:
                    os.close(process)
                _run(json.loads(request), streams, client)
            for stream in streams:
                os.close(stream)
            if job:
                jobs[os.pidfd_open(job)] = job, connection
                connection.sendall(b"%d\n" % job)


def _run(request: list, streams: list[int], client: str) -> None:
    """Run a job in this process, and end the process with the exit status of the job."""
    words, environment, folder, parent = request
    *streams, network = streams
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    if not os.path.sameopenfile(network, os.open("/proc/self/ns/net", os.O_RDONLY)):
        assert ctypes.CDLL(None).setns(network, 0) == 0
    os.close(network)
    own, parent_of_this_process = os.getpid(), os.getppid
    os.getppid = lambda: parent if os.getpid() == own else parent_of_this_process()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    multiprocessing.process.ORIGINAL_DIR = folder  # spawned processes look for a relative path of the script here
    is_module = words[0] == "-m"
    sys.executable, sys.argv = client, words[is_module:]
    sys.path[0] = folder if is_module else str(Path(words[0]).resolve().parent)
    sys.path[1:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    try:
        if is_module:
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        traceback.print_exc()
        status = 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    # End as the interpreter does, but do not free each object, which would take a second after so many imports.
    threading._shutdown()
    atexit._run_exitfuncs()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    if SOCKET in os.environ:
        sys.exit(_client())
    _serve(*sys.argv[1:])
