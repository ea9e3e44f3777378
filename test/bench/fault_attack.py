"""What would run something if it were let: pickles in every form of file, and values of options in every driver."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from fault_bench import Bench
from fault_chain import COMMANDS, ROOT, start  # first: it says where modules are

from model.common.errors import UserError


def payloads(tell: Callable[[str], None]) -> dict:
    """Each program as an OpenGait sequence, as a partition, and as a checkpoint of each form, loaded in each way."""
    import payloads as hostile
    import torch

    from model.checkpoints.checkpoint import load_encoder, load_optimizer, load_tensors
    from model.data.partition import read_partition
    from model.data.store import open_data
    from model.network import GaitSet

    warnings.filterwarnings("ignore", "Detected pickle protocol")
    logging.getLogger("model.data.store").setLevel(logging.ERROR)
    failures: list[str] = []
    tried: dict[str, int] = {}
    network = GaitSet(2)
    with tempfile.TemporaryDirectory() as name:
        folder, here = Path(name), Path(name, "here")
        here.mkdir()
        os.chdir(here)
        for program_name, program in hostile.programs().items():
            sequence = folder / "tree" / "001" / "nm-01" / "000" / "000.pkl"
            sequence.parent.mkdir(parents=True, exist_ok=True)
            sequence.write_bytes(program)
            (folder / "p.npy").write_bytes(hostile.npy(program))
            ways = {
                "OpenGait sequence": lambda: open_data(folder / "tree", folder / "stores", quiet=True),
                "partition .npy": lambda: read_partition(folder / "p.npy"),
            }
            for form, content in hostile.checkpoints(program):
                path = folder / f"{form}.ptm"
                path.write_bytes(content)
                ways[f"checkpoint, {form}"] = lambda path=path: load_tensors(path)
                ways[f"encoder, {form}"] = lambda path=path: load_encoder(network, path)
                optimizer = torch.optim.Adam(network.parameters())
                ways[f"optimizer, {form}"] = lambda path=path, o=optimizer: load_optimizer(o, path)
            for way, load in ways.items():
                tried[way] = tried.get(way, 0) + 1
                try:
                    load()
                    failures.append(f"{program_name} as {way}: taken")
                except UserError:
                    pass
                if any(here.iterdir()):
                    failures.append(f"{program_name} as {way}: RAN")
                    for made in here.iterdir():
                        made.unlink()
        os.chdir(ROOT)
    tell(f"{len(hostile.programs())} programs in {len(ways)} ways")
    return {"tried": tried, "failures": failures}


def network(bench: Bench, tell: Callable[[str], None]) -> dict:
    """Every command, undisturbed: it speaks to nobody but itself, and what it puts elsewhere than where it was told is
    in folders that only its user may enter."""
    failures: list[str] = []
    tried: dict[str, int] = {}
    notes = bench.trial.parent / "network"
    for name, one in COMMANDS.items():
        notes.unlink(missing_ok=True)
        job = start(one, bench.fresh(one), lambda: _note_strangers(bench.trial, notes))
        if set(job.wait()) != {0}:
            failures.append(f"{name}: {job.said()[-300:]}")
        strange = sorted(set(notes.read_text().splitlines())) if notes.exists() else []
        failures += [f"{name}: {line}" for line in strange]
        tried[name] = 1
    tell(f"{len(tried)} commands")
    return {"tried": tried, "failures": failures}


def _note_strangers(root: Path, notes: Path) -> None:
    """Note every connection beyond this machine, every look for an address, and every file made outside `root` that
    others could read or lay in wait for."""
    private: list[str] = []

    def hook(event: str, arguments: tuple) -> None:
        strange = None
        if event in ("socket.connect", "socket.bind", "socket.sendto"):
            address = arguments[1]
            host = address[0] if isinstance(address, tuple) else ""
            if isinstance(address, tuple) and host not in ("127.0.0.1", "::1", "localhost"):
                strange = f"{event} {address}"
        elif event in ("urllib.Request", "http.client.connect", "ftplib.connect", "smtplib.connect"):
            strange = f"{event} {arguments}"
        elif event == "tempfile.mkdtemp":
            private.append(os.fsdecode(arguments[0]))
        elif event == "open" and isinstance(arguments[0], str | bytes) and _makes(arguments[1], arguments[2]):
            path = str(Path.cwd() / os.fsdecode(arguments[0]))
            if not path.startswith((f"{root.parent}/", "/dev/", "/proc/", *private)) and not os.path.lexists(path):
                strange = f"makes {path}"
        if strange:
            descriptor = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(descriptor, f"{strange}\n".encode())
            os.close(descriptor)

    sys.addaudithook(hook)


def _makes(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax")
    return isinstance(flags, int) and bool(flags & os.O_CREAT)


def injections(share: float, tell: Callable[[str], None]) -> dict:
    """Each driver, each value, through arguments and environment; and each option that a driver looks at itself."""
    import hostile_values as hostile

    failures: list[str] = []
    tried: dict[str, int] = {}
    values = hostile.VALUES[: max(1, round(share * len(hostile.VALUES)))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hostile.prepare(folder)
        for driver in hostile.DRIVERS:
            own = sorted(set(hostile.options_of(driver)) & hostile.LOOKED_AT.keys())
            for value in values:
                for way in ("arguments", "environment"):
                    runs = [lambda v=value, w=way: hostile.passed_on(folder, driver, v, w)]  # noqa: B023, run at once
                    runs += [lambda n=n, v=value, w=way: hostile.looked_at(folder, driver, n, v, w) for n in own]  # noqa: B023
                    for run in runs:
                        tried[driver] = tried.get(driver, 0) + 1
                        try:
                            run()
                            assert hostile.nothing_ran(folder), "RAN"
                        except AssertionError as error:
                            failures.append(f"{driver} with {value!r} in {way}: {str(error)[:300]}")
            tell(f"{driver}: {tried[driver]} runs")
    return {"tried": tried, "failures": failures}
