"""Every benchmark runs with small sizes, and its last line is JSON with its figures. The tests check no times."""

import json
import sys
from pathlib import Path

import pytest
from scripts import ROOT, run_script
from walkers import write_aligned_tree

# The commands of the benchmarks with small sizes, and the keys that their JSON must contain.
TRAINING = "--device cpu --p 2 --k 2 --frame_num 2"
DEPLOYMENT = "--threads 1 --batch_sizes 1 --frame_num 3 --rounds 1 --calls 1"
SMALL = {
    f"training.py {TRAINING} --iters 2 --subjects 3 --frames 3 --only float32 --only streamed": "float32 streamed",
    "train_step.py --p 2 --k 2 --frames 2 --iters 1 --rounds 1": "plain_s ours_s ratio",
    f"scaling.py {TRAINING} --processes 2 --iters 2 --agree 1 --exchanges 2 --subjects 3 --frames 3": "runs",
    f"precision.py {TRAINING} --seeds 1 --iters 1 --subjects 4 --train 2 --frames 8 --views 000,090 --only float32":
        "runs mean",
    "whole_test.py --device cpu --subjects 2 --frames 3 --sequences 20 --amp off --embed_frames 30 --rounds 1":
        "seconds_of_the_command embedding",
    "faults.py --small --only fuzz --only stops --only failing_calls --only races": "experiments",
    f"deploy.py {DEPLOYMENT} --lengths 2 4": "runs",
    f"deploy.py {DEPLOYMENT} --only static --settings --lengths": "runs",
    "pretreat.py --subjects 1 --frames 3 --worker_num 1 --repeats 1": "workers store",
    "evaluate.py --subjects 4 --dim 64": "seconds plain_seconds ratio",
    "evaluate.py --gallery 300 --dim 32 --device_mib 1": "seconds rank1",
    "silhouettes.py {tree} {tree} --views 000,090 090": "trees distance",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("command", SMALL, ids=lambda command: command.split()[0])
def test_a_benchmark_runs_and_ends_with_its_figures(command, tmp_path):
    if "{tree}" in command:
        write_aligned_tree(tmp_path, subjects=2, seq_types=("nm-01",), frames=12)
    run = run_script(*f"test/bench/{command}".format(tree=tmp_path).split(), cwd=ROOT)
    assert run.returncode == 0, run.stderr[-2000:]
    assert set(SMALL[command].split()) <= json.loads(run.stdout.splitlines()[-1]).keys()


TRACE = """\
connect(13, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("20.42.65.92")}, 16) = -1 EINPROGRESS (...)
connect(3, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "2001:db8::1", ...
connect(4, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 0
connect(4, {sa_family=AF_INET, sin_port=htons(29500), sin_addr=inet_addr("127.0.0.1")}, 16) = 0
connect(4, {sa_family=AF_INET6, sin6_port=htons(29500), sin6_flowinfo=0, inet_pton(AF_INET6, "::ffff:127.0.0.1", ...
bind(8, {sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr("0.0.0.0")}, 16) = 0
connect(4, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT (No such file or directory)
openat(AT_FDCWD, "work/../out", O_RDWR|O_CREAT|O_CLOEXEC, 0666) = 5
openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 6
openat(AT_FDCWD, "/home/u/.cache/deviceid", O_RDWR|O_CREAT|O_CLOEXEC, 0644) = 7
openat(AT_FDCWD, "/usr/lib/x", O_WRONLY|O_CREAT|O_CLOEXEC, 0644) = -1 EROFS (Read-only file system)
mkdir("/tmp/private", 0700) = 0
openat(AT_FDCWD, "/tmp/private/a", O_WRONLY|O_CREAT|O_CLOEXEC, 0666) = 7
mkdir("/tmp/open", 0777) = 0
"""


@pytest.mark.parametrize("several", [False, True])
def test_watching_finds_connections_and_files_in_a_trace(several, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "test/bench")
    monkeypatch.setattr(sys, "path", list(sys.path))  # the benchmark adds folders
    from fault_watching import forbidden_calls

    findings = forbidden_calls(TRACE.splitlines(), Path("/chain/trial"), Path("/chain"), several)
    expected = {"connect 20.42.65.92 port 443", "connect 2001:db8::1 port 80", "bind 0.0.0.0 port 0"}
    expected |= {"creates /home/u/.cache/deviceid", "creates /tmp/open"}
    assert findings == expected | (set() if several else {"asks the name server 127.0.0.53"})
