"""Reading untrusted files executes nothing: each payload is read as silhouettes, as a partition and as a checkpoint."""

import subprocess
import sys
from functools import partial

import numpy as np
import payloads
import pytest
import torch
from scripts import ROOT

from model.checkpoints.loading import load_encoder, load_optimizer, load_tensors
from model.common.errors import UserError
from model.data.array_pickle import MAX_OPCODES, read_array
from model.data.partition import read_partition
from model.data.store import open_data
from model.network import GaitSet

PROGRAMS = payloads.programs()

POTENT = """
import contextlib, os, pickle, sys, time
sys.path[:0] = [sys.argv[1] + "/test/unit/support"]
import payloads

def written():
    return any(name.startswith(payloads.MARKER) for name in os.listdir())

for name, program in payloads.programs().items():
    with contextlib.suppress(BaseException):
        pickle.loads(program)
    until = time.monotonic() + 10  # some payloads start a process and do not wait for it
    while not written() and time.monotonic() < until:
        time.sleep(0.01)
    print(name, end=": written\\n" if written() else ": harmless\\n")
    for file in os.listdir():
        os.remove(file)
"""


@pytest.fixture(autouse=True)
def no_marker(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield
    assert not list((tmp_path / "here").iterdir())


def test_payloads_work_when_unpickled(tmp_path):
    """Each payload of the tests below writes a file when it is unpickled."""
    (tmp_path / "there").mkdir()
    command = [sys.executable, "-c", POTENT, str(ROOT)]
    done = subprocess.run(command, cwd=tmp_path / "there", capture_output=True, text=True, check=True, timeout=60)
    lines = [line for line in done.stdout.splitlines() if ": written" in line or ": harmless" in line]
    assert len(lines) == len(PROGRAMS) >= 30
    assert [line for line in lines if not line.endswith(": written")] == []


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_is_executed(name, tmp_path):
    program = PROGRAMS[name]
    with pytest.raises(ValueError):
        read_array(program)
    folder = tmp_path / "tree" / "001" / "nm-01" / "000"
    folder.mkdir(parents=True)
    (folder / "000.pkl").write_bytes(program)
    with pytest.raises(UserError, match=r"000\.pkl: not a pickle of a NumPy array"):
        open_data(tmp_path / "tree", tmp_path / "stores")
    (tmp_path / "p.npy").write_bytes(payloads.npy(program))
    with pytest.raises(UserError, match=r"p\.npy: not a partition"):
        read_partition(tmp_path / "p.npy")
    network = GaitSet(4)
    for form, content in payloads.checkpoints(program):
        path = tmp_path / f"{form}.ptm"
        path.write_bytes(content)
        optimizer = torch.optim.Adam(network.parameters())
        for load in (load_tensors, partial(load_encoder, network), partial(load_optimizer, optimizer)):
            with pytest.raises(UserError, match=f"{form}.ptm: "):
                load(path)


def test_arrays_of_all_protocols_and_layouts():
    random = np.random.default_rng(0)
    whole = random.integers(0, 256, (5, 64, 50), dtype=np.uint8)
    for array in (whole, whole[:, :, 3:47], np.asfortranarray(whole), whole[::-1], whole[:0], whole.transpose(2, 0, 1)):
        for protocol in range(6):
            np.testing.assert_array_equal(read_array(payloads.pickle.dumps(array, protocol)), array)


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_arrays_of_numpy_1_and_2(core):
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for protocol in range(4):  # protocols 4 and 5 write the length of a name before the name
        data = payloads.pickle.dumps(array, protocol)
        for other in ("numpy.core", "numpy._core"):
            data = data.replace(f"c{other}.multiarray".encode(), f"c{core}.multiarray".encode())
        np.testing.assert_array_equal(read_array(data), array)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3, np.float32), "expected uint8"),
        (np.zeros(3, "<U4"), "expected uint8"),
        (np.zeros(3, [("a", "u1")]), "opcode EMPTY_DICT, which arrays do not have"),
        (np.array([[["a"]]], object), "not a list of lists"),
        ([1], "it is a list, expected an array"),
        ({"a": 1}, "opcode EMPTY_DICT, which arrays do not have"),
        (payloads.Calls(sys.exit, 3), r"it would call sys\.exit"),
    ],
)
def test_other_values(array, message):
    with pytest.raises(ValueError, match=message):
        read_array(payloads.pickle.dumps(array, 4))


def test_false_sizes_allocate_no_memory():
    """For the first ten bytes, Python's unpickler would allocate memory for a memo of two billion entries."""
    place = payloads.struct.pack("<I", 2**31)
    kept = payloads.whole(b"K\x01r" + place)
    assert kept.startswith(b"\x80\x04")
    with pytest.raises(ValueError, match="expected an array"):
        read_array(kept)
    array = payloads.pickle.dumps(np.zeros((3, 4), np.uint8), 2)
    for message, damaged in {
        "12 bytes but claims the shape": array.replace(b"K\x03K\x04\x86", b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"),
        "shape is damaged": array.replace(b"K\x03K\x04\x86", b"J\xff\xff\xff\xffK\x04\x86"),
        "damaged": array[:-4] + b".",
        "before seeing STOP": array[:2],
    }.items():
        assert damaged != array
        with pytest.raises(ValueError, match=message):
            read_array(damaged)
    with pytest.raises(ValueError, match="far more"):
        read_array(b"N" * (MAX_OPCODES + 5))
