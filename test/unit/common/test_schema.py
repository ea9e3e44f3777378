"""Checks of JSON values, whose errors name the place, the expected type and the value."""

import json
import re

import pytest

from model.common.errors import UserError
from model.common.schema import check, parse_checked, read_checked

SCHEMA = {"format": "x-1", "sizes": [range(1, 9)], "people": [{"name": str, "age": int | None}], "rates": {str: float}}
GOOD = {
    "format": "x-1", "sizes": [1, 8], "people": [{"name": "a", "age": 3}, {"name": "b"}], "rates": {"m": 1, "n": 0.5},
    "more": [None],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "x-2"}, "format: expected 'x-1', found 'x-2'"),
        ({"format": None}, "format: expected 'x-1', found nothing"),
        ({"sizes": 5}, "sizes: expected list, found 5"),
        ({"sizes": [1, 9]}, "sizes[1]: expected int from 1 to 8, found 9"),
        ({"sizes": [True]}, "sizes[0]: expected int from 1 to 8, found True"),
        ({"sizes": [1, 2, "3"]}, "sizes[2]: expected int from 1 to 8, found '3'"),
        ({"people": {"0": 1}}, "people: expected list, found {'0': 1}"),
        ({"people": [{"name": "a"}, 5]}, "people[1]: expected dict, found 5"),
        ({"people": [{"age": 3}]}, "people[0].name: expected str, found nothing"),
        ({"people": [{"name": "a", "age": 0.5}]}, "people[0].age: expected int | None, found 0.5"),
        ({"rates": {"m": float("nan")}}, "rates.m: expected float, found nan"),
        ({"rates": {"m": 10**400}}, "rates.m: expected float, found 1000"),
        ({"rates": {"m": "1"}}, "rates.m: expected float, found '1'"),
    ],
)
def test_an_error_names_place_type_and_value(tmp_path, change, message):
    assert check(GOOD, SCHEMA) is GOOD
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        check(GOOD | change, SCHEMA)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(UserError, match=rf"a\.json: not an x \({re.escape(message)}.*\); write it again$"):
        read_checked(path, SCHEMA, "not an x", "write it again")


@pytest.mark.parametrize("item", [int, str, range(-3, 70)], ids=repr)
@pytest.mark.parametrize("odd", [True, None, 70, "x", 1.0, [1]], ids=repr)
def test_a_list_is_checked_like_its_items(item, odd):
    """Lists of plain values are checked by a shortcut, which must reject the same values at any position."""
    plain = "ab" if item is str else (0, 69)

    def accepts(value, schema):
        try:
            return check(value, schema) is value
        except ValueError:
            return False

    for values in ([], [odd], [*plain, odd], [odd, *plain]):
        assert accepts(values, [item]) == all(accepts(value, item) for value in values)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, b"\xff", "[1]"])
def test_text_that_is_not_the_document_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        parse_checked(text, {})


def test_a_missing_or_invalid_file_is_reported_with_the_advice(tmp_path):
    with pytest.raises(UserError, match=r"a\.json: no such file \(write it again\)$"):
        read_checked(tmp_path / "a.json", {}, "not an x", "write it again")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match=r"a\.json: cannot be read as JSON .*\(write it again\)$"):
        read_checked(tmp_path / "a.json", {}, "not an x", "write it again")
