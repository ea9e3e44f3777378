"""What a shell driver leaves behind: one JSON file, and the same as key=value lines.

python -m model.commands.summary STEM [FILE.json | KEY=VALUE ...] writes STEM.json and STEM.txt. A file is merged under
its name, in the lines as `name.key=value`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from model.common.errors import UsageError, one_line, run_command
from model.common.files import read_json, whole_file, write_json


def collect(arguments: list[str]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals and not argument.endswith(".json"):
            raise UsageError(f"{argument}: neither KEY=VALUE nor a JSON file")
        name = key if equals else Path(argument).stem
        if name in content:
            raise UsageError(f"{argument}: there is a {name} already")
        content[name] = value if equals else read_json(argument)
    return content


def flat(content: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Leaves of nested dicts with their dotted names; lists stay as they are."""
    if not isinstance(content, dict):
        return [(prefix, content)]
    return [leaf for key, value in content.items() for leaf in flat(value, f"{prefix}.{key}" if prefix else key)]


def main() -> None:
    if len(sys.argv) < 2:
        raise UsageError("usage: python -m model.commands.summary STEM [FILE.json | KEY=VALUE ...]")
    stem, content = Path(sys.argv[1]), collect(sys.argv[2:])
    write_json(stem.with_suffix(".json"), content)
    with whole_file(stem.with_suffix(".txt")) as part:
        lines = (one_line(f"{key}={value}") for key, value in flat(content))
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    run_command(main)
