"""Files and folders that appear whole or not at all."""

import json
import os

import pytest

from model.errors import UserError
from model.files import json_text, read_json, remove_leftovers, whole_file, whole_folder, write_json
from model.summary import collect, flat


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_appears_when_it_is_complete(tmp_path, durable):
    path = tmp_path / "new" / "a.txt"
    with whole_file(path, durable) as part:
        part.write_text("half")
        assert not path.exists()
        part.write_text("whole")
    assert path.read_text() == "whole"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole_file(path) as part:
        part.write_text("new, half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_takes_the_place_of_the_old_one_as_a_whole(tmp_path):
    for content in ("old", "new"):
        with whole_folder(tmp_path / "f") as part:
            (part / content).touch()
    assert [p.name for p in (tmp_path / "f").iterdir()] == ["new"]
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "f") as part:
        (part / "half").touch()
        raise RuntimeError
    assert [p.name for p in (tmp_path / "f").iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_leftovers_of_killed_processes_are_removed_and_nothing_else(tmp_path):
    alive = f".alive.{os.getppid()}.part"
    (tmp_path / ".a.txt.99999999.part").touch()
    (tmp_path / ".f.99999999.part").mkdir()
    for name in (alive, ".hidden", "a.part"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, spare_living=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == [alive, ".hidden", "a.part"]
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".hidden", "a.part"]


def test_json_is_read_back_and_faults_name_the_file(tmp_path):
    write_json(tmp_path / "a.json", {"ä": [1, None]}, durable=True)
    assert read_json(tmp_path / "a.json") == {"ä": [1, None]}
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(UserError, match=r"b\.json"):
        read_json(tmp_path / "b.json")
    with pytest.raises(UserError, match=r"c\.json: no such file"):
        read_json(tmp_path / "c.json")


def test_summaries_merge_files_under_their_names(tmp_path):
    write_json(tmp_path / "training.json", {"speed": {"it/s": 3}})
    content = collect([str(tmp_path / "training.json"), "processes=2"])
    assert content == {"training": {"speed": {"it/s": 3}}, "processes": "2"}
    assert flat(content) == [("training.speed.it/s", 3), ("processes", "2")]
    assert json.dumps(content)
    with pytest.raises(UserError, match="neither"):
        collect(["what"])
    with pytest.raises(UserError, match="already"):  # the later would hide the earlier
        collect([str(tmp_path / "training.json"), "training=2"])


def test_a_folder_that_a_killed_process_of_the_same_number_left_is_no_hindrance(tmp_path):
    (tmp_path / f".f.{os.getpid()}.part" / "old").mkdir(parents=True)
    with whole_folder(tmp_path / "f") as part:
        (part / "new").touch()
    assert [p.name for p in (tmp_path / "f").iterdir()] == ["new"]


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    for whole in (whole_file, whole_folder):
        with pytest.raises(UserError, match="cannot be written"), whole(tmp_path / "file" / "x"):
            pass


def test_json_keeps_its_values_and_a_row_of_numbers_in_a_line():
    value = {
        "rows": [[1, -2.5e-7, None], [3, 4, 5]],
        "text": "[\n 1,\n 2\n]",
        "names": ["a", "b"],
        "none": [],
        "one": [7],
    }
    text = json_text(value)
    assert json.loads(text) == value
    assert "[1, -2.5e-07, null]" in text and "[7]" in text and '"names": [\n' in text
