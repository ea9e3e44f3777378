"""Random changes of bytes, JSON values and lines, as caused by damage, other programs or an attacker."""

import copy
import json
import random
import struct
from pathlib import Path
from typing import Any

from model.common.json_files import read_json
from model.common.json_files import write_json as write_valid_json

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


def write_bytes(path: Path, whole: bytes, draw: random.Random) -> None:
    path.write_bytes(bytes_of(whole, [whole], draw))


def write_json(path: Path, value: Any, draw: random.Random) -> None:
    path.write_text(json_text(json_of(value, draw), draw), errors="surrogatepass")


def write_lines(path: Path, text: str, draw: random.Random) -> None:
    path.write_text(lines_of(text, draw), errors="surrogatepass")


class SealedFile:
    """A JSON file with a checksum, which `write` changes."""

    def __init__(self, path: Path):
        self.path, self.whole, self.content = path, path.read_bytes(), read_json(path, sealed=True)

    def write(self, draw: random.Random) -> bool:
        """Write other content with a valid checksum, so that only its structure can be checked, or other bytes.

        Returns whether the checksum is valid.
        """
        if sealed := draw.random() < 0.5:
            write_valid_json(self.path, json_of(self.content, draw), sealed=True)
        else:
            write_bytes(self.path, self.whole, draw)
        return sealed


def bytes_of(whole: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """Return `whole` with one to eight changes. `others` are valid files whose parts are inserted."""
    data = bytearray(whole)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        place = draw.randrange(len(data) + 1)
        if draw.random() < 0.3:  # change headers more often
            place = min(place, draw.randrange(64))
        kind = draw.randrange(9)
        length = min(draw.choice((1, 2, 4, 8, 16, 100, 1000)), len(data) - place)
        if kind == 0:
            del data[place:]
        elif kind == 1:
            del data[place : place + length]
        elif kind == 2 and place < len(data):
            data[place] ^= 1 << draw.randrange(8)
        elif kind == 3:
            data[place : place + length] = draw.randbytes(length)
        elif kind == 4:
            magic = draw.choice(MAGIC)
            data[place : place + len(magic)] = magic
        elif kind == 5:
            data[place:place] = draw.choice(MAGIC)
        elif kind == 6:
            data[place:place] = data[place : place + length]
        elif kind == 7:
            other = draw.choice(others)
            start = draw.randrange(len(other) + 1)
            data[place : place + length] = other[start : start + draw.choice((4, 64, 4096))]
        else:
            data[place : place + length] = bytes(length)
    return bytes(data) if draw.random() > 0.01 else draw.choice((b"", draw.randbytes(draw.randrange(200))))


def json_of(value: Any, draw: random.Random) -> Any:
    """Return `value` with one to three parts replaced, removed, duplicated, exchanged or renamed."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 2, 3))):
        places = [((), value), *_places(value)]
        path, node = draw.choice(places)
        if not path:
            if draw.random() < 0.05:
                value = draw.choice(VALUES)
            continue
        parent, key = path
        kind = draw.randrange(6)
        if kind <= 2:
            parent[key] = copy.deepcopy(draw.choice(VALUES))
        elif kind == 3:
            del parent[key]
        elif kind == 4 and isinstance(parent, list):
            other = draw.randrange(len(parent))
            parent[key], parent[other] = parent[other], parent[key]
            if draw.random() < 0.5:
                parent.insert(other, copy.deepcopy(node))
        elif isinstance(parent, dict):
            parent[draw.choice([str(v) for v in VALUES[:20]] + list(parent))] = copy.deepcopy(node)
    return value


def _places(value: Any) -> list[tuple[tuple[Any, Any], Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, child in items:
        found.append(((value, key), child))
        found += _places(child)
    return found


def json_text(value: Any, draw: random.Random) -> str:
    """Return `value` as JSON, in a few cases truncated or nested too deeply."""
    text = json.dumps(value, indent=draw.choice((None, 1)), ensure_ascii=draw.random() < 0.5)
    chance = draw.random()
    if chance < 0.05:
        return text[: draw.randrange(len(text) + 1)]
    if chance < 0.08:
        depth = draw.choice((10, 1000, 100_000))
        return "[" * depth + text + "]" * depth
    return text


def lines_of(whole: str, draw: random.Random) -> str:
    """Return text with lines exchanged, removed, duplicated, or with other line ends, or with words replaced."""
    lines = whole.split("\n")
    for _ in range(draw.choice((1, 2, 4))):
        place = draw.randrange(len(lines))
        kind = draw.randrange(8)
        words = lines[place].split(" ")
        if kind == 0 and len(lines) > 1:
            del lines[place]
        elif kind == 1:
            lines.insert(draw.randrange(len(lines) + 1), lines[place])
        elif kind == 2:
            draw.shuffle(lines)
        elif kind == 3:
            words[draw.randrange(len(words))] = str(draw.choice(VALUES))
        elif kind == 4:
            words.insert(draw.randrange(len(words) + 1), str(draw.choice(VALUES)))
        elif kind == 5:
            del words[draw.randrange(len(words))]
        elif kind == 6:
            words = [draw.choice("aA1.-[]{}:= \t") * draw.choice((1, 10, 10_000))]
        else:
            lines[place] = lines[place][: draw.randrange(len(lines[place]) + 1)]
            continue
        if kind >= 3:
            lines[place] = " ".join(words)
    return draw.choice(("\n", "\n", "\r\n", "\r", "\u2028")).join(lines)
