"""A training on two machines: two network namespaces, each with its own torchrun, and one shared folder."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from forking import python_command
from launching import wait_for
from scripts import ROOT
from training_runs import arguments, files_of, same, torchrun, weights

TOTAL = 20
# If torchrun shares its store with its workers, the workers of a replacement wait for an address that nobody writes.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
NODES = {f"gaitset{os.getpid()}a": "10.231.7.1", f"gaitset{os.getpid()}b": "10.231.7.2"}
pytestmark = pytest.mark.slow


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    """Two network namespaces that are connected by a virtual cable. Their interfaces are called eth0."""
    created = []
    try:
        for name in NODES:
            ip("netns", "add", name)
            created.append(name)
        first, second = NODES
        ip("-n", first, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", second)
        for name, address in NODES.items():
            ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", b"").decode().strip() or error
        pytest.skip(f"network namespaces cannot be created here ({reason})")
    finally:
        for name in created:
            subprocess.run(["ip", "netns", "delete", name], check=False)


@contextmanager
def node(name: str, tree, work, *more) -> Iterator[subprocess.Popen]:
    """Start torchrun with one process in a network namespace, as on a separate machine."""
    first = next(iter(NODES.values()))
    is_host = NODES[name] == first  # torchrun would compare the address with the address of the host name
    launch = [
        "ip", "netns", "exec", name, python_command(), "-m", "torch.distributed.run", "--nnodes", "2",
        "--nproc_per_node", "1", "--rdzv_backend", "c10d", "--rdzv_endpoint", f"{first}:29400", "--rdzv_id", "test",
        "--rdzv_conf", f"is_host={is_host}", "--local_addr", NODES[name], "--max_restarts", "3",
    ]  # fmt: skip
    options = arguments(tree, work, "--iters", TOTAL, "--save_iter", 4, "--restore_iter", "auto", "--quiet", *more)
    with (work / "log.txt").open("a") as log:
        process = subprocess.Popen(
            [*launch, str(ROOT / "train.py"), *options], stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, **ENVIRONMENT},
        )  # fmt: skip
    try:
        yield process
    finally:
        kill(process, name)


def kill(process: subprocess.Popen, name: str) -> None:
    """Kill all processes in a namespace at once, as if a machine failed."""
    found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=True)
    for number in {*map(int, found.stdout.split()), process.pid}:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.wait()


def test_a_lost_node_is_replaced_and_the_weights_equal_those_of_one_machine(network, aligned_tree, tmp_path):
    first, second = NODES
    whole, work = tmp_path / "whole", tmp_path / "nodes"
    work.mkdir()
    with node(first, aligned_tree, work) as stays, node(second, aligned_tree, work) as lost:
        wait_for(files_of(work).last_complete, stays)
        kill(lost, second)
        assert files_of(work).last_complete() < TOTAL
        with node(second, aligned_tree, work) as replacement:
            for process in (stays, replacement):
                assert process.wait(timeout=300) == 0, (work / "log.txt").read_text()[-5000:]
    assert "restart 1 after a process ended: resuming from iteration" in (work / "log.txt").read_text()
    done = torchrun(2, "train.py", *arguments(aligned_tree, whole, "--iters", TOTAL, "--save_iter", TOTAL))
    assert done.returncode == 0, done.stderr
    assert same(weights(work, TOTAL), weights(whole, TOTAL))
