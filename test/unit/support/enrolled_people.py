"""Make galleries with random entries."""

import numpy as np

from model.identify.gallery import Encoder, Entry, enrol, read_gallery

ENCODER = Encoder("e.ptm", "ab" * 32, 1)


def entries(people: dict[str, int], spread: float = 1.0, seed: int = 0) -> list[Entry]:
    """Return gallery entries with random embeddings. The embeddings of a person are near a random centre.

    Args:
        people: number of sequences of each person.
        spread: standard deviation of the embeddings around the centre of the person.
    """
    rng = np.random.default_rng(seed)
    found = []
    for person, count in people.items():
        centre = rng.normal(0, 3, 62)
        for number in range(count):
            embedding = (centre + rng.normal(0, spread, 62)).astype(np.float32)
            found.append(Entry(person, f"nm-{number:02d}", "090", 30, embedding, 1, f"png of {person} {number}"))
    return found


def gallery_of(folder, people: dict[str, int]):
    enrol(folder / "g.parquet", ENCODER, entries(people))
    return read_gallery(folder / "g.parquet")
