"""Check JSON documents against schemas. An error names the place in the document, the value and the expected type.

A schema has the form of its document:

    {"name": str, "sizes": [int]}     an object with these keys, and possibly others; null counts as missing
    {str: float}                      an object with any keys
    int | None                        a type, or one of several types; True is not an int
    float                             an int or a float whose magnitude is less than 1e15
    range(1, 100)                     an int in this range
    "gaitset-store-2"                 this value
    Rule(...)                         see `rules.py`
"""

import json
import reprlib
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from model.common.errors import UserError
from model.common.json_files import read_json
from model.common.rules import Rule


def read_checked(path: Path, schema: Any, problem: str, advice: str, sealed: bool = False) -> Any:
    """Read a JSON file and check it.

    Raises UserError `<path>: <problem> (<place>: expected <type>, found <value>); <advice>`. Errors of `read_json` also
    end with the advice.
    """
    try:
        return check(read_json(path, sealed), schema)
    except UserError as error:
        raise UserError(f"{error} ({advice})") from error
    except ValueError as error:
        raise UserError(f"{path}: {problem} ({error}); {advice}") from error


def parse_checked(text: str | bytes, schema: Any) -> Any:
    """Decode JSON and check it. Raises ValueError if the text is not JSON or does not match `schema`."""
    try:
        return check(json.loads(text), schema)
    except RecursionError as error:
        raise ValueError("the values are nested too deeply") from error


def check(value: Any, schema: Any, place: str = "") -> Any:
    """Return `value`, or raise ValueError if it does not match `schema`. `place` names the position of `value`."""
    if isinstance(schema, dict) and type(value) is dict:
        for key, part in schema.items():
            for name in value if key is str else [key]:
                check(value.get(name), part, f"{place}.{name}" if place else name)
    elif isinstance(schema, list) and type(value) is list:
        if not _all_match(value, schema[0]):
            for i, item in enumerate(value):
                check(item, schema[0], f"{place}[{i}]")
    else:
        unmet = schema.unmet(value) if isinstance(schema, Rule) else None if _matches(value, schema) else _name(schema)
        if unmet is not None:
            found = "nothing" if value is None else reprlib.repr(value)
            raise ValueError(f"{place or 'document'}: expected {unmet}, found {found}")
    return value


def _all_match(values: list, schema: Any) -> bool:
    """Return True if all values match a plain schema (int, str or a range), without a call for each value.

    The lists of a store are long. If this function returns False, the caller must check each value.
    """
    if isinstance(schema, range) and set(map(type, values)) == {int}:
        return min(values) in schema and max(values) in schema
    return schema in (int, str) and set(map(type, values)) <= {schema}


def _matches(value: Any, schema: Any) -> bool:
    if isinstance(schema, range):
        return type(value) is int and value in schema
    if not isinstance(schema, type | UnionType):
        return type(value) is type(schema) and value == schema
    types = {schema, *get_args(schema)}
    is_number = float in types and type(value) in (int, float)
    return abs(value) < 1e15 if is_number else type(value) in types  # the comparison also rejects NaN


def _name(schema: Any) -> str:
    if isinstance(schema, range):
        return f"int from {schema.start} to {schema.stop - 1}"
    schema = type(schema) if isinstance(schema, dict | list) else schema
    return schema.__name__ if isinstance(schema, type) else repr(schema)
