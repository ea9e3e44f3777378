"""Change bytes, JSON values and lines at random, as damage, other programs or attackers do.

`file_target` and `sealed_target` make fuzz targets: functions that write a changed file and let a reader read it.
"""

import copy
import json
import os
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from model.common.json_files import read_json, write_json

MAGIC = [
    *(struct.pack(order + kind, value) for order in "<>" for kind, values in (
        ("B", (0, 1, 127, 128, 255)), ("H", (0, 20_000, 65_535)), ("I", (0, 1, 20_000, 2**31 - 1, 2**31, 2**32 - 1)),
        ("Q", (0, 2**31, 2**40, 2**63 - 1, 2**63, 2**64 - 1)), ("f", (float("nan"), float("inf"), -1e38)),
    ) for value in values),
    b"\x00" * 64, b"\xff" * 64, b"\n", b"\r\n", b"\xef\xbb\xbf", b"..", b"/etc/passwd", b"\x00", b"IEND", b"PK\x03\x04",
]  # fmt: skip

VALUES = [
    None, True, False, 0, 1, -1, 2, 255, 2**31, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", " ", "0", "001", "nan", "..", "../..", "/etc/passwd", "a/b", "a\\b", "\0", "\n", "\x1b[2J",
    "\u2028", "x" * 3000,
    "步态", "001\0", ".hidden", "-rf", "1e999", [], {}, [[]], [None], {"": None}, [1, 2, 3], ["001"], {"a": {"b": 1}},
]  # fmt: skip

# A fuzz target makes an input with the given random numbers and reads it. It raises the errors of the reader, or
# AssertionError if the reader returns a wrong result.
Target = Callable[[random.Random], object]


def write(path: Path, good: Any, draw: random.Random, others: Sequence[bytes] = ()) -> Path:
    """Change `good` and write it to `path`. Returns the path.

    Bytes are changed by `bytes_of`, text by `lines_of`, and any other value is written as JSON by `json_text`.
    """
    if isinstance(good, bytes):
        path.write_bytes(bytes_of(good, others or [good], draw))
    else:
        text = lines_of(good, draw) if isinstance(good, str) else json_text(good, draw)
        path.write_text(text, errors="surrogatepass")
    return path


def make(path: Path, content: Any) -> None:
    """Make a folder (dict), a file (bytes), a file of zeros (int, its size), a link (Path) or a pipe (None)."""
    if isinstance(content, dict):
        path.mkdir()
        for name, part in content.items():
            make(path / name, part)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, int):
        path.touch()
        os.truncate(path, content)
    elif isinstance(content, Path):
        path.symlink_to(content)
    else:
        os.mkfifo(path)


def file_target(path: Path, contents: Sequence[Any], read: Callable[[Path], object]) -> Target:
    """Return a fuzz target that changes one of the valid `contents`, writes it to `path` and calls `read(path)`."""
    return lambda draw: read(write(path, draw.choice(contents), draw, contents))


def sealed_target(paths: Sequence[Path], read: Callable[[], object]) -> Target:
    """Return a fuzz target that changes one of several JSON files with checksums.

    Half of the inputs have a changed structure and a valid checksum, so the reader can only check the structure. The
    other inputs have changed bytes. `read` must reject changed bytes, or return the same value as for the valid files.
    """
    valid, expected = {path: path.read_bytes() for path in paths}, read()

    def target(draw: random.Random) -> None:
        for path, content in valid.items():
            path.write_bytes(content)
        path = draw.choice(paths)
        if sealed := draw.random() < 0.5:
            write_json(path, structure_of(read_json(path, sealed=True), draw), sealed=True)
        else:
            write(path, valid[path], draw)
        assert read() == expected or sealed, f"different values from a modified {path.name}"

    return target


def bytes_of(whole: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    """Return `whole` with one to eight changes, which may insert parts of `others`. Rarely, return unrelated bytes."""
    if draw.random() < 0.01:
        return draw.choice((b"", draw.randbytes(draw.randrange(200))))
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        start = draw.randrange(len(whole) + 1)
        if draw.random() < 0.3:  # change headers more often
            start = min(start, draw.randrange(64))
        end = min(start + draw.choice((1, 2, 4, 8, 16, 100, 1000)), len(whole))
        part, magic, other = whole[start:end], draw.choice(MAGIC), draw.choice(others)
        place = draw.randrange(len(other) + 1)
        changes = (
            (len(whole), b""),  # truncate
            (end, b""),  # remove
            (end, bytes([*part[:-1], part[-1] ^ 1 << draw.randrange(8)]) if part else b""),  # flip one bit
            (end, draw.randbytes(len(part))),
            (start + len(magic), magic),  # overwrite
            (start, magic),  # insert
            (start, part),  # duplicate
            (end, other[place : place + draw.choice((4, 64, 4096))]),
            (end, bytes(len(part))),
        )
        end, new = draw.choice(changes)
        whole = whole[:start] + new + whole[end:]
    return whole


def structure_of(
    value: Any, draw: random.Random, values: Sequence[Any] = VALUES, keys: Sequence[str] = tuple(map(str, VALUES[:20]))
) -> Any:
    """Return a copy of nested dicts and lists. One to three parts are replaced, removed, duplicated or exchanged.

    Args:
        values: replacements for parts.
        keys: keys for the duplicates of parts of a dict.
    """
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 2, 3))):
        parent, key = draw.choice(list(_places(value)) or [({"": None}, "")])
        other = draw.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        kind = draw.randrange(6)
        if kind <= 2:
            parent[key] = copy.deepcopy(draw.choice(values))
        elif kind == 3:
            del parent[key]
        elif kind == 4:
            parent[key], parent[other] = parent[other], parent[key]
        elif isinstance(parent, dict):
            parent[draw.choice(keys)] = copy.deepcopy(parent[key])
        else:
            parent.insert(other, copy.deepcopy(parent[key]))
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each dict and list in `value` with each of its keys."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


def json_text(value: Any, draw: random.Random) -> str:
    """Return JSON with changed structure. A few texts are an unrelated value, truncated, or nested too deeply."""
    changed = structure_of(value, draw) if draw.random() > 0.02 else draw.choice(VALUES)
    text = json.dumps(changed, indent=draw.choice((None, 1)), ensure_ascii=draw.random() < 0.5)
    chance = draw.random()
    if chance < 0.05:
        return text[: draw.randrange(len(text) + 1)]
    if chance < 0.08:
        depth = draw.choice((10, 1000, 100_000))
        return "[" * depth + text + "]" * depth
    return text


def lines_of(whole: str, draw: random.Random) -> str:
    """Return a text with changed lines and words, and perhaps with different line ends."""
    lines = whole.split("\n")
    for _ in range(draw.choice((1, 2, 4))):
        place = draw.randrange(len(lines))
        line, words, value = lines[place], lines[place].split(" "), str(draw.choice(VALUES))
        word = draw.randrange(len(words))
        before, after = words[:word], words[word + 1 :]
        kind = draw.randrange(8)
        if kind == 0:
            draw.shuffle(lines)
        elif kind == 1:
            lines.insert(draw.randrange(len(lines)), line)
        elif kind == 2:
            del lines[place]
        else:
            lines[place] = draw.choice((
                " ".join([*before, value, *after]),
                " ".join([*before, value, *words[word:]]),
                " ".join(before + after),
                draw.choice("aA1.-[]{}:= \t") * draw.choice((1, 10, 10_000)),
                line[: draw.randrange(len(line) + 1)],
            ))  # fmt: skip
        lines = lines or [""]
    return draw.choice(("\n", "\n", "\r\n", "\r", "\u2028")).join(lines)
