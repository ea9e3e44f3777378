"""`python -m model.identify`: the gallery file, fused distances, decisions, and every action of the command."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from scipy import stats
from walkers import write_aligned_tree

from model.common.errors import UsageError, UserError
from model.common.lock import locked
from model.identify import __main__ as command
from model.identify import gallery as gallery_file
from model.identify.gallery import Encoder, Entry, enrol, read_gallery, remove
from model.identify.matching import MIN_PAIRS, calibrate, fuse, person_distances, threshold_at
from model.network import GaitSet

ENCODER = Encoder("e.ptm", "ab" * 32, 1)


def entries(people: dict[str, int], spread: float = 1.0, seed: int = 0) -> list[Entry]:
    """Entries of people at random places, each with so many sequences near its place."""
    rng = np.random.default_rng(seed)
    found = []
    for person, count in people.items():
        centre = rng.normal(0, 3, 62)
        for number in range(count):
            embedding = (centre + rng.normal(0, spread, 62)).astype(np.float32)
            found.append(Entry(person, f"nm-{number:02d}", "090", 30, embedding, 1, f"png of {person} {number}"))
    return found


@pytest.fixture
def small_blocks(monkeypatch):
    """Read and write few rows at a time, so that a small gallery has several blocks."""
    monkeypatch.setattr(gallery_file, "ROW_BLOCK", 3)


def test_enrolled_entries_are_read_back(tmp_path, small_blocks):
    path, given = tmp_path / "new" / "g.parquet", entries({"ben": 4, "安娜": 3, "carla": 1})
    assert enrol(path, ENCODER, given[:5]) == 5 and enrol(path, ENCODER, given[5:]) == 3
    gallery = read_gallery(path)
    rows = {gallery.name(i): i for i in range(len(gallery))}
    assert gallery.encoder == ENCODER and gallery.people.tolist() == ["ben", "carla", "安娜"] and len(rows) == 8
    order = np.array([rows[f"{e.person}/{e.take}/{e.view}"] for e in given])
    np.testing.assert_array_equal(gallery.embeddings_of(order), np.stack([e.embedding for e in given]))
    assert gallery.animations(order[[1, 6]].tolist()) == {
        order[1]: (1, given[1].animation), order[6]: (1, given[6].animation)
    }  # fmt: skip


def test_a_second_enrolment_replaces_equal_labels_and_remove_forgets_a_person(tmp_path, small_blocks):
    path = tmp_path / "g.parquet"
    enrol(path, ENCODER, entries({"ben": 4, "anna": 5}))
    changed = entries({"ben": 2}, seed=1)
    enrol(path, ENCODER, changed)
    gallery = read_gallery(path)
    assert len(gallery) == 9
    row = int(np.flatnonzero([gallery.name(i) == "ben/nm-01/090" for i in range(9)])[0])
    np.testing.assert_array_equal(gallery.embeddings_of(np.array([row]))[0], changed[1].embedding)
    assert remove(path, "ben") == 4
    assert set(read_gallery(path).labels["person"]) == {"anna"} and b"ben" not in path.read_bytes()
    assert remove(path, "anna") == 5 and len(read_gallery(path)) == 0
    with pytest.raises(UserError, match="nobody named ben is enrolled"):
        remove(path, "ben")
    assert [p.name for p in tmp_path.iterdir()] == ["g.parquet"]


def test_refused_writes_keep_the_gallery(tmp_path):
    path, given = tmp_path / "g.parquet", entries({"ben": 2})
    enrol(path, ENCODER, given)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"enrolled with the encoder e\.ptm .* give the same encoder with --checkpoint"):
        enrol(path, ENCODER._replace(sha256="cd" * 32), given)
    with pytest.raises(UserError, match="the embedding of ben/nm-00/090 contains values that are not finite"):
        enrol(path, ENCODER, [given[0]._replace(embedding=np.full(62, np.nan))])

    def interrupted():
        yield given[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        enrol(path, ENCODER, interrupted())
    with locked(path.with_name(".g.parquet.lock"), path), pytest.raises(UserError, match="another job is writing"):
        enrol(path, ENCODER, given)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["g.parquet"]


@pytest.mark.parametrize("content", [b"", b"PAR1 and more", None])
def test_other_files_are_not_galleries(tmp_path, content):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "g.parquet"
    if content is None:
        pyarrow.parquet.write_table(pyarrow.table({"person": ["a"]}), path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"g\.parquet: (not a gallery|cannot be read as a gallery)"):
        read_gallery(path)
    with pytest.raises(UserError, match="no such gallery; create it"):
        read_gallery(tmp_path / "none.parquet")


def test_fused_distance_is_the_mean_of_the_best_three():
    rng = np.random.default_rng(0)
    ids = np.array([2, 0, 0, 2, 0, 0, 2, 3])  # person 1 has no sequence
    distance = rng.random((5, 8)).astype(np.float32)
    distance[0, 7] = np.inf  # excluded
    distance[1, 1] = distance[1, 2]  # a tie
    for row in distance:
        fused = fuse(row, ids, 4)
        for person in range(4):
            own = np.sort(row[(ids == person) & np.isfinite(row)])[:3]
            assert fused.distance[person] == pytest.approx(own.mean() if len(own) else np.inf)
            if len(own):
                assert ids[fused.row[person]] == person and row[fused.row[person]] == own[0]
        assert fuse(row, ids, 4, best=1).distance[0] == row[ids == 0].min()


def test_memory_limit_does_not_change_the_distances(tmp_path, small_blocks):
    path = tmp_path / "g.parquet"
    enrol(path, ENCODER, entries({"a": 4, "b": 7, "c": 1}))
    gallery = read_gallery(path)
    probes = np.random.default_rng(1).normal(0, 3, (7, 62)).astype(np.float32)
    whole = np.stack([found.distance for found in person_distances(probes, gallery)])
    two_together = person_distances(probes, gallery, memory=2 * 4 * len(gallery))
    np.testing.assert_allclose(np.stack([found.distance for found in two_together]), whole, rtol=1e-5)
    expected = np.linalg.norm(probes[:, None] - np.concatenate(list(gallery.embeddings()))[None], axis=2)
    np.testing.assert_allclose(whole[:, 2], expected[:, gallery.person_ids == 2][:, 0], rtol=1e-4)


@pytest.mark.parametrize("far", [0.01, 0.1, 0.33])
def test_threshold_accepts_the_given_share_of_many_distances(far):
    values = np.random.default_rng(3).normal(10, 2, 457)
    threshold, extrapolated = threshold_at(values, np.arange(457), far)
    assert not extrapolated and far - 2 / 457 < (values < threshold).mean() <= far


@pytest.mark.parametrize(("people", "each"), [(3, 1), (5, 6), (10, 6), (40, 3)])
def test_thresholds_of_few_people_accept_about_the_given_share_on_average(people, each):
    """Half of the variance is common to the distances of a person, so quantiles would accept 14 % for five people."""
    rng = np.random.default_rng(people)

    def distances(count: int) -> np.ndarray:
        return np.exp(3 + 0.1 * rng.normal(size=(count, 1)) + 0.1 * rng.normal(size=(count, each)))

    own, accepted = np.repeat(np.arange(people), each), []
    for _ in range(300):
        threshold, extrapolated = threshold_at(distances(people).ravel(), own, 0.05)
        accepted.append((distances(200) < threshold).mean())
        assert extrapolated == (people < 20)
    assert 0.02 < np.mean(accepted) < 0.07


def test_extrapolation_uses_the_effective_number_of_distances():
    values = np.random.default_rng(0).normal(10, 1, 5)
    same = np.repeat(values, 12)  # twelve equal distances per person are five distances
    threshold, extrapolated = threshold_at(same, np.repeat(np.arange(5), 12), 0.05)
    logs = np.log(same)
    spread = np.sqrt((4 * 0.15**2 + 4 * logs.var(ddof=1)) / 8 * (1 + 1 / 5))
    assert extrapolated and threshold == pytest.approx(np.exp(stats.t(8, logs.mean(), spread).ppf(0.05)))
    independent = np.tile(values, 5)  # every person has the same five distances
    spread = np.sqrt((4 * 0.15**2 + 24 * np.log(independent).var(ddof=1)) / 28 * (1 + 1 / 25))
    found = threshold_at(independent, np.repeat(np.arange(5), 5), 0.05)[0]
    assert found == pytest.approx(np.exp(stats.t(28, logs.mean(), spread).ppf(0.05)))
    assert threshold_at(same[:24], np.repeat([0, 1], 12), 0.05) == (None, False), "two people are too few"
    assert 0 < threshold_at(np.array([0, 0, 1e-9]), np.arange(3), 0.05)[0] < 1e-9, "equal sequences have distance 0"


def test_calibration_uses_each_sequence_without_itself(tmp_path):
    path = tmp_path / "g.parquet"
    enrol(path, ENCODER, entries({name: 5 for name in "abcdef"}))
    gallery = read_gallery(path)
    found = calibrate(gallery, 0.1)
    values = np.concatenate(list(gallery.embeddings()))
    distance = np.linalg.norm(values[:, None] - values[None], axis=2)
    genuine, strangers = [], []  # recomputed from all pairs
    for i, person in enumerate(gallery.person_ids):
        others = [np.sort(distance[i, gallery.person_ids == p])[:3].mean() for p in range(6) if p != person]
        genuine.append(np.sort(np.delete(distance[i], i)[np.delete(gallery.person_ids, i) == person])[:3].mean())
        strangers.append(min(others))
    np.testing.assert_allclose(found.genuine, genuine, rtol=1e-4)
    # Six people compare with five others, a probe with six.
    expected = threshold_at(np.array(strangers), gallery.person_ids, 1 - 0.9 ** (5 / 6))
    assert found.threshold == pytest.approx(expected[0], rel=1e-4) and found.extrapolated == expected[1]
    near, far = found.probability(min(genuine)), found.probability(max(strangers))
    assert near > 0.9 and far < 0.1 and found.probability(0.0) > near


@pytest.mark.parametrize(
    ("people", "messages"),
    [
        ({"a": 4}, ["too few people for a threshold: 1 enrolled, at least 3", "no probabilities"]),
        ({"a": 3, "b": 2}, ["too few people for a threshold: 2 enrolled", "5 comparisons of a person"]),
        ({name: 1 for name in "abc"}, ["with about 100 enrolled people", f"at least {MIN_PAIRS} of each are needed"]),
        ({name: 5 for name in "abcd"}, ["extrapolated from the distances between 4"]),
    ],
)
def test_small_galleries_say_what_they_cannot_decide(tmp_path, people, messages):
    enrol(tmp_path / "g.parquet", ENCODER, entries(people))
    found = calibrate(read_gallery(tmp_path / "g.parquet"), 0.01)
    assert (found.threshold is None) == (len(people) < 3) == (found.pair_threshold is None)
    assert (found.probability(1.0) is None) == (len(messages) == 2)
    for note, message in zip(found.notes(), messages, strict=True):
        assert message in note


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A folder with a small encoder, and options for a gallery and a probe tree of the same six people."""
    folder = tmp_path_factory.mktemp("identify")
    torch.manual_seed(3)
    torch.save(GaitSet(hidden_dim=8, channels=(4, 6, 10)).state_dict(), folder / "e.ptm")
    torch.save(GaitSet(hidden_dim=8, channels=(4, 6, 10)).state_dict(), folder / "other.ptm")
    write_aligned_tree(folder / "gallery", 6, ("nm-01", "nm-02", "nm-03"))
    write_aligned_tree(folder / "probe", 6, ("nm-01",), ("000",), frames=9)
    options = ["--device", "cpu", "--work_path", str(folder / "work"), "--quiet"]
    return folder, [*options, "--checkpoint", str(folder / "e.ptm"), "--gallery", str(folder / "people.parquet")]


def enrolled(trees, *more: str) -> None:
    folder, options = trees
    (folder / "people.parquet").unlink(missing_ok=True)
    command.main(["enroll", *options, "--data_path", str(folder / "gallery"), *more])


def test_people_are_named_and_the_page_shows_them(trees, tmp_path, capsys):
    folder, options = trees
    enrolled(trees)
    page, result = tmp_path / "who.html", tmp_path / "who.json"
    wanted = ["who", *options, "--data_path", str(folder / "probe"), "--far", "0.1", "--best", "1"]
    command.main([*wanted, "--report", str(page), "--json", str(result)])
    printed, content = capsys.readouterr().out, json.loads(result.read_text())
    assert "enrolled 36 sequences of 6 people" in printed
    assert len(content["sequences"]) == 6 and all(len(s["nearest"]) == 5 for s in content["sequences"])
    right = 0
    for sequence in content["sequences"]:
        best = sequence["nearest"][0]
        right += sequence["sequence"].split("/")[0] == best["person"]
        assert sequence["known"] == (best["distance"] < content["threshold"])
        assert f"{sequence['sequence']} ({sequence['frames']} frames): " in printed
        distances = [match["distance"] for match in sequence["nearest"]]
        assert distances == sorted(distances) and 0 <= best["probability"] <= 1
    assert right >= 5
    html = page.read_text()
    assert "<script" not in html and "http" not in html.replace("http://www.w3.org", "")
    assert html.count('class="mistake"') == 6 and html.count("data:image/png;base64") == 18 and "<svg" in html


def test_names_of_tracks_select_who_is_enrolled(trees, tmp_path, capsys):
    table = tmp_path / "tracks.csv"
    table.write_text("track,name\n001,anna\n003,ben\n004,anna\n005,\n", encoding="utf-8-sig")
    enrolled(trees, "--names", str(table))
    command.main(["list", *trees[1]])
    printed = capsys.readouterr().out
    assert "anna: 12 sequences, views 000, 090" in printed and "ben: 6 sequences" in printed
    assert "18 sequences of 2 people" in printed and "005" not in printed
    for name in ("anna", "ben"):
        command.main(["remove", name, *trees[1]])
    command.main(["list", *trees[1]])
    assert "0 sequences of 0 people" in capsys.readouterr().out
    with pytest.raises(UserError, match="nobody is enrolled"):
        command.main(["verify", "anna", "ben", *trees[1]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("track,name\n009,anna\n", "line 2: no track '009' in the tree; its tracks: 001, 002"),
        ("track,name\n001,anna\n001,ben\n", "line 3: track 001 is anna and ben"),
        ("id,person\n001,anna\n", "the first line is id,person, expected the columns track,name"),
        ("track,name\n001,\n", "no names; write one line per track"),
    ],
)
def test_wrong_tables_of_names_are_errors(trees, tmp_path, content, message):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        enrolled(trees, "--names", str(tmp_path / "t.csv"))


def test_verify_compares_tracks_and_people(trees, tmp_path, capsys):
    folder, options = trees
    enrolled(trees)
    command.main(["remove", "006", *options])
    found = {}
    for pair in (("001", "001"), ("001/nm-01", "005"), ("002", "006"), ("006", "006")):
        result = tmp_path / "v.json"
        tree = ["--data_path", str(folder / "probe"), "--far", "0.05", "--json", str(result)]
        command.main(["verify", *pair, *options, *tree])
        found[pair] = json.loads(result.read_text())
    assert found["001", "001"]["same"] and found["001", "001"]["distance"] > 0
    assert not found["001/nm-01", "005"]["same"] and not found["002", "006"]["same"]
    assert found["006", "006"]["distance"] < 0.1  # both are the track, because the person was removed
    assert "001 and 001: the same person (distance" in capsys.readouterr().out
    result = tmp_path / "any.json"
    command.main(
        ["--json", str(result), "verify", "--quiet", "001", *options, "005", "--data_path", str(folder / "probe")]
    )
    assert json.loads(result.read_text())["names"] == ["001", "005"]
    with pytest.raises(UsageError, match=r"zoe is neither a person .* nor a track"):
        command.main(["verify", "zoe", "001", *options])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "001"], "verify: 1 names given, 2 expected"),
        (["remove"], "remove: 0 names given, 1 expected"),
        (["who"], "give an aligned tree with --data_path"),
        (["list", "--report", "x.html"], "--report has no effect with list"),
        (["who", "--names", "t.csv", "--data_path", "x"], "--names has no effect with who"),
    ],
)
def test_wrong_arguments_are_rejected(trees, arguments, message):
    with pytest.raises(UsageError, match=message):
        command.main([*arguments, *trees[1]])


def test_another_encoder_is_refused(trees):
    folder, options = trees
    enrolled(trees)
    other = ["--checkpoint", str(folder / "other.ptm"), "--data_path", str(folder / "probe")]
    for action in ("who", "enroll"):
        with pytest.raises(UserError, match=r"enrolled with the encoder e\.ptm .* uses other\.ptm"):
            command.main([action, *options, *other])


@pytest.mark.skipif(os.name != "posix", reason="needs bash")
def test_driver_chains_video_and_names():
    from scripts import run_driver

    done = run_driver(
        "identify.sh", "--gallery_video=/v/a.mp4", "--probe_video=/v/b c.mp4", "--work_path=/w", "--dry_run"
    )
    commands = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("+ python")]
    assert [" ".join(c[1:4]) if c[1] == "-m" else c[1] for c in commands] == [
        "-m model.silhouettes --video", "pretreatment.py", "-m model.silhouettes --video", "pretreatment.py",
        "-m model.identify enroll", "-m model.identify who",
    ]  # fmt: skip
    assert "--data_path /w/gallery-a-pre" in done.stdout and "/w/probe-b\\ c-pre" in done.stdout
    without = run_driver("identify.sh", "--dry_run", "--work_path=/w").stdout
    assert "--video /w/walkers-1.mp4" in without and "--data_path /w/probe-walkers-2-pre" in without
