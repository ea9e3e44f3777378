"""Read and write JSON files. Files in which a damaged value could go unnoticed have a checksum."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from model.common.errors import UserError, os_error_line
from model.common.files import write_file


def write_json(path: Path | str, value: Any, durable: bool = False, sealed: bool = False) -> None:
    """Write JSON atomically. `sealed` adds a checksum, with which `read_json` detects modified or damaged files."""
    text = json_text(value)
    write_file(path, seal(text) if sealed else text, durable)


# A list of numbers in the layout of json.dumps. Text in strings cannot match, because JSON escapes line breaks there.
_NUMBERS = re.compile(r"\[\n\s*((?:[-+0-9.eE]+|null|NaN)(?:,\n\s*(?:[-+0-9.eE]+|null|NaN))*)\n\s*\]")


def json_text(value: Any) -> str:
    """Return indented JSON in which each list of numbers is on one line."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return _NUMBERS.sub(lambda row: "[" + re.sub(r",\s+", ", ", row[1]) + "]", text) + "\n"


def seal(text: str) -> str:
    """Return the text of a JSON object with the checksum of the text as a new first entry."""
    return f'{{\n "{_SEAL}": "{_digest(text)}",{text[1:]}'


_SEAL = "sha256_of_the_rest"
_SEALED = re.compile(rf'\{{\n "{_SEAL}": "([0-9a-f]{{64}})",(.*)', re.DOTALL)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read_json(path: Path | str, sealed: bool = False) -> Any:
    """Read a JSON file. Raises UserError if the file is missing or invalid. `sealed` also verifies the checksum."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:  # editors may write a byte order mark
            text = file.read()
        if sealed:
            match = _SEALED.fullmatch(text)
            if match is None or _digest("{" + match[2]) != match[1]:
                raise UserError(
                    f"{path}: the checksum is wrong or missing, because the file was modified or damaged or is from an "
                    "older version; create it again"
                )
            text = "{" + match[2]
        return json.loads(text)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({os_error_line(error)})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error
