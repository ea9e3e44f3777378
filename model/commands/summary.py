"""Write the summary of a shell script as a JSON file and as key=value lines.

python -m model.commands.summary STEM [FILE.json | KEY=VALUE ...] writes STEM.json and STEM.txt. In STEM.json, the
content of FILE.json is the value of the key FILE. In STEM.txt, it is in lines `FILE.key=value`.
"""

import sys
from pathlib import Path
from typing import Any

from model.common.errors import UsageError, one_line, run_command
from model.common.files import write_file
from model.common.json_files import read_json, write_json


def collect(arguments: list[str]) -> dict[str, Any]:
    """Return the values of the arguments KEY=VALUE by key, and the content of the JSON files by file name."""
    content: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals and not argument.endswith(".json"):
            raise UsageError(f"{argument}: expected KEY=VALUE or the name of a .json file")
        name = key if equals else Path(argument).stem
        if name in content:
            raise UsageError(f"{argument}: the key {name} is given twice")
        content[name] = value if equals else read_json(argument)
    return content


def flat(content: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return the values in nested dicts, each with its keys joined by dots. Lists are not expanded."""
    if not isinstance(content, dict):
        return [(prefix, content)]
    return [leaf for key, value in content.items() for leaf in flat(value, f"{prefix}.{key}" if prefix else key)]


def main() -> None:
    if len(sys.argv) < 2:
        raise UsageError("usage: python -m model.commands.summary STEM [FILE.json | KEY=VALUE ...]")
    stem, content = Path(sys.argv[1]), collect(sys.argv[2:])
    write_json(stem.with_suffix(".json"), content)
    lines = (one_line(f"{key}={value}") for key, value in flat(content))
    write_file(stem.with_suffix(".txt"), "".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    run_command(main)
