"""Start a script in several processes with torchrun, and restart all of them if one is killed.

    python -m model.launch --processes 8 train.py --data_path work/CASIA-B-pre
    python -m model.launch --processes 8 --max_restarts 0 test.py --use_8p_model True

The processes find each other through a file in a private folder, and communicate through the loopback address. If you
run torchrun directly, it listens on all addresses of the machine. For several machines, use torchrun. A restarted
training resumes from its newest checkpoint.
"""

import argparse
import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

from model.common.command_line import CommandParser, positive
from model.common.errors import GIVE_UP, UsageError
from model.config import Config

MAX_RESTARTS = 3


class _UserErrorOfWorker(Exception):  # noqa: N818, not an error of this process: the worker has reported it
    """A worker has ended with a user error, which would occur again after a restart."""


def main() -> int:
    options = _parser().parse_args()
    return launch(options.processes, options.max_restarts, [options.script, *options.arguments])


def launch(processes: int, max_restarts: int, command: Sequence[str], port: int | None = None) -> int:
    """Run `command` (a script and its arguments) in several processes. Return the exit status.

    If a worker crashes or is killed, all workers are restarted, at most `max_restarts` times. They are not restarted
    after a user error. The workers find each other through a file or, with `port`, through a server of torchrun on this
    port of the loopback address.
    """
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher import api
    from torch.distributed.run import main as torchrun

    class Agent(LocalElasticAgent):
        """torchrun's agent, which ends instead of restarting the workers after a user error."""

        def _restart_workers(self, worker_group) -> None:
            if give_up.exists():
                raise _UserErrorOfWorker
            super()._restart_workers(worker_group)

    api.LocalElasticAgent = Agent
    logging.disable()  # torchrun would log the error of a worker, which the worker has already printed
    with tempfile.TemporaryDirectory(prefix="gaitset-launch-") as folder:  # only this user can open the folder
        give_up = Path(folder, "give_up")
        for name in [name for name in os.environ if name.startswith("PET_")]:
            del os.environ[name]  # Kubeflow sets defaults of torchrun's options for a job of several machines
        os.environ |= {GIVE_UP: str(give_up), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        options = {
            "nnodes": 1, "nproc_per_node": processes, "max_restarts": max_restarts, "monitor_interval": 0.2,
            "rdzv_backend": "c10d", "rdzv_endpoint": f"{folder}/store", "rdzv_conf": "store_type=file",
            "rdzv_id": uuid.uuid4().hex, "local_addr": "127.0.0.1",
        }  # fmt: skip
        if port:
            options |= {"rdzv_backend": "static", "rdzv_endpoint": f"127.0.0.1:{port}", "rdzv_conf": ""}
        try:
            torchrun([f"--{name}={value}" for name, value in options.items()] + list(command))
        except _UserErrorOfWorker:
            print("not restarted: the user error above would occur again", file=sys.stderr)
            return int(give_up.read_text())
        except ChildFailedError as error:
            return int(give_up.read_text()) if give_up.exists() else _status_of(error, max_restarts)
        except SignalException as error:
            return 128 + error.sigval
    return 0


def start_processes(options: argparse.Namespace, config: Config, started: int) -> int | None:
    """Start as many processes as --device_num or the config says, and return their exit status.

    Return None if this process is to train itself. Kubernetes sets WORLD_SIZE and RANK in each pod, but not LOCAL_RANK.
    In a pod, --device_num starts processes that train without the other pods.

    Args:
        started: number of processes that a launcher has started. The device_num of the config is then ignored.
    """
    in_pod = started > 1 and not os.environ.get("LOCAL_RANK")
    if started > 1 and not in_pod and options.device_num not in (None, started):
        raise UsageError(
            f"--device_num {options.device_num}, but {started} processes were started; omit --device_num, or start one "
            "process"
        )
    wanted = options.device_num or (started if os.environ.get("WORLD_SIZE") else config.device_num or 1)
    if wanted == started and not (in_pod and options.device_num):
        return None
    if in_pod:
        print(
            f"warning: --device_num {wanted} starts its own processes and ignores WORLD_SIZE={started} and "
            f"RANK={os.environ['RANK']} of the environment; torchrun --nnodes trains on several machines",
            file=sys.stderr,
        )
    return launch(wanted, MAX_RESTARTS, sys.argv, options.port)


def _status_of(error, max_restarts: int) -> int:
    rank, failure = error.get_first_failure()
    if failure.exitcode < 0:
        how = f"was killed by {signal.Signals(-failure.exitcode).name}"
    else:
        how = f"ended with status {failure.exitcode}"
    print(f"error: process {rank} {how} after {max_restarts} restarts", file=sys.stderr)
    return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m model.launch", description=__doc__)
    parser.add_argument("--processes", type=positive, required=True, metavar="N", help="number of processes")
    parser.add_argument(
        "--max_restarts", type=int, default=MAX_RESTARTS, metavar="N",
        help="maximum number of restarts after a process is killed (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("script", help="Python script to run")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the script")
    return parser


if __name__ == "__main__":
    sys.exit(main())
