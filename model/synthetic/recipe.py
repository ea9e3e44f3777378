"""What decides which walkers a data set has, frame by frame."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from model.common.errors import UsageError
from model.synthetic.camera import VIEWS
from model.synthetic.walkers import SEQ_TYPES, World

VERSION = 2  # of the walkers: raise it whenever the same arguments give other pictures
DESCRIPTION = "synthetic.json"  # beside the subjects; readers of the tree pass over plain files there


@dataclass(frozen=True)
class Recipe:
    """The arguments that decide what is in a data set, byte for byte on one kind of device. See `World`."""

    subjects: int
    frames: int = 60
    seed: int = 0
    first_subject: int = 1
    views: tuple[str, ...] = VIEWS
    takes: tuple[str, ...] = SEQ_TYPES
    noise: float = 1.0
    cameras: float = 0.0
    bodies: float = 1.0
    gaits: float = 1.0

    def __post_init__(self):
        for name in ("subjects", "frames", "first_subject"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} must be a whole number above 0, not {getattr(self, name)}")
        for name in ("seed", "noise", "cameras", "bodies", "gaits"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"--{name} must not be negative, not {getattr(self, name)}")
        for name, known in (("views", VIEWS), ("takes", SEQ_TYPES)):
            chosen = getattr(self, name)
            unknown = [one for one in chosen if one not in known]
            if unknown or not chosen:
                raise UsageError(f"--{name}: {unknown[0] if unknown else 'nothing'!r} is none of {', '.join(known)}")
            # The order and the repetition of names change nothing that is written.
            object.__setattr__(self, name, tuple(one for one in known if one in chosen))

    @property
    def numbers(self) -> range:
        return range(self.first_subject, self.first_subject + self.subjects)

    @property
    def world(self) -> World:
        return World(**{field.name: getattr(self, field.name) for field in fields(World)})

    def name(self, subject: int) -> str:
        """Of a subject's folder. With more than 999 subjects longer, so that names sort like numbers."""
        return f"{subject:0{max(3, len(str(self.numbers[-1])))}d}"

    def description(self) -> dict:
        return {"made_by": "python -m model.synthetic", "version": VERSION, **asdict(self)}
