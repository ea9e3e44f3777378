"""Test the gallery file: enrolling, replacing and removing people, and files that are not galleries."""

import numpy as np
import pyarrow.parquet
import pytest
from enrolled_people import ENCODER, entries

from model.common.errors import UserError
from model.common.lock import locked
from model.identify.gallery import enrol, read_gallery, remove


def names_of(gallery) -> list[str]:
    return ["/".join(labels) for labels in zip(*gallery.labels.values(), strict=True)]


def test_enrolled_entries_are_read_back(tmp_path):
    path, given = tmp_path / "new" / "g.parquet", entries({"ben": 4, "安娜": 3, "carla": 1})
    assert enrol(path, ENCODER, given[:5]) == 5 and enrol(path, ENCODER, given[5:]) == 3
    gallery = read_gallery(path)
    rows = {name: i for i, name in enumerate(names_of(gallery))}
    assert gallery.encoder == ENCODER and gallery.people.tolist() == ["ben", "carla", "安娜"] and len(rows) == 8
    order = np.array([rows[f"{e.person}/{e.take}/{e.view}"] for e in given])
    np.testing.assert_array_equal(gallery.embeddings_of(order), np.stack([e.embedding for e in given]))
    strips = {order[i]: ("/".join(given[i][:3]), 1, given[i].animation) for i in (1, 6)}
    assert gallery.film_strips(order[[1, 6]].tolist()) == strips


def test_a_second_enrolment_replaces_equal_labels_and_remove_forgets_a_person(tmp_path):
    path = tmp_path / "g.parquet"
    enrol(path, ENCODER, entries({"ben": 4, "anna": 5}))
    changed = entries({"ben": 2}, seed=1)
    enrol(path, ENCODER, changed)
    gallery = read_gallery(path)
    assert len(gallery) == 9
    row = names_of(gallery).index("ben/nm-01/090")
    np.testing.assert_array_equal(gallery.embeddings_of(np.array([row]))[0], changed[1].embedding)
    assert remove(path, "ben") == 4
    assert set(read_gallery(path).labels["person"]) == {"anna"} and b"ben" not in path.read_bytes()
    assert remove(path, "anna") == 5 and len(read_gallery(path)) == 0
    with pytest.raises(UserError, match="nobody named ben is enrolled"):
        remove(path, "ben")
    assert [p.name for p in tmp_path.iterdir()] == ["g.parquet"]


def test_rejected_writes_keep_the_gallery(tmp_path):
    path, given = tmp_path / "g.parquet", entries({"ben": 2})
    enrol(path, ENCODER, given)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"enrolled with encoder e\.ptm .* give the same encoder with --checkpoint"):
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


def test_blocks_do_not_stay_in_memory(tmp_path):
    rng, encoder = np.random.default_rng(0), ENCODER._replace(dim=256)
    rows = [entry._replace(embedding=rng.normal(size=62 * 256).astype(np.float32)) for entry in entries({"ben": 60})]
    enrol(tmp_path / "g.parquet", encoder, rows)
    gallery, before = read_gallery(tmp_path / "g.parquet"), pyarrow.total_allocated_bytes()
    held = [pyarrow.total_allocated_bytes() - before for _ in gallery.embeddings()]
    assert len(held) == 20 and max(held) < 6 * rows[0].embedding.nbytes * 3


@pytest.mark.parametrize("content", [b"", b"PAR1 and more", None])
def test_other_files_are_not_galleries(tmp_path, content):
    path = tmp_path / "g.parquet"
    if content is None:
        pyarrow.parquet.write_table(pyarrow.table({"person": ["a"]}), path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"g\.parquet: (not a gallery|cannot be read as a gallery)"):
        read_gallery(path)
    missing = tmp_path / "no file.parquet"
    with pytest.raises(UserError, match=f"no such gallery; create it with `.* --gallery '{missing}'`"):
        read_gallery(missing)
