"""The settings that determine every frame of a set of synthetic walkers."""

from dataclasses import asdict, dataclass
from pathlib import Path

from model.common.errors import UsageError
from model.synthetic.camera import VIEWS

LIMIT = 2**62  # of all numbers, so that the sum of two of them fits into 64 bits
VERSION = 2  # raise it whenever the same settings give different pixels
SETTINGS_FILE = "synthetic.json"  # next to the folders of the subjects, where readers of the tree ignore files
TAKES = {"nm": 6, "bg": 2, "cl": 2}  # number of takes per condition, as in CASIA-B
SEQ_TYPES = tuple(f"{condition}-{take:02d}" for condition, count in TAKES.items() for take in range(1, count + 1))


@dataclass(frozen=True, kw_only=True)
class WalkerSettings:
    """All settings of a data set. They determine every byte of the data set on one kind of device.

    seed            each seed gives different people
    frames          frames per sequence, at 25 frames/s
    noise           strength of the segmentation noise: 0 means none, 1 is the noise of CASIA-A
    cameras         how far the cameras of each take deviate from the eleven fixed cameras: 0 means not at all
    bodies, gaits   how much people differ: 0 means not at all, 1 means as much as real people
    subjects        number of subjects, counted from `first_subject`
    views, takes    names; they are put into the order of VIEWS and SEQ_TYPES, without duplicates

    Raises UsageError for a value out of range and for an unknown view or take.
    """

    seed: int = 0
    frames: int = 60
    noise: float = 1.0
    cameras: float = 0.0
    bodies: float = 1.0
    gaits: float = 1.0
    subjects: int = 12
    first_subject: int = 1
    views: tuple[str, ...] = VIEWS
    takes: tuple[str, ...] = SEQ_TYPES

    def __post_init__(self):
        counts = dict.fromkeys(("frames", "subjects", "first_subject"), 1)
        for name, least in {**counts, **dict.fromkeys(("seed", "noise", "cameras", "bodies", "gaits"), 0)}.items():
            if not least <= getattr(self, name) < LIMIT:
                raise UsageError(f"--{name}: must be at least {least} and less than 2**62, not {getattr(self, name)}")
        for name, known in (("views", VIEWS), ("takes", SEQ_TYPES)):
            chosen = getattr(self, name)
            unknown = [one for one in chosen if one not in known]
            if unknown or not chosen:
                found = f"{unknown[0]!r} is not known" if unknown else "is empty"
                raise UsageError(f"--{name}: {found}; give one or more of {', '.join(known)}")
            object.__setattr__(self, name, tuple(one for one in known if one in chosen))

    @property
    def subject_numbers(self) -> range:
        return range(self.first_subject, self.first_subject + self.subjects)

    def folder_name(self, subject: int) -> str:
        """Return the name of a subject's folder: at least three digits, and as many as the last subject needs."""
        return f"{subject:0{max(3, len(str(self.subject_numbers[-1])))}d}"

    def description(self) -> dict:
        """Return the content of SETTINGS_FILE, except for its key `complete`."""
        return {"made_by": "python -m model.synthetic", "version": VERSION, **asdict(self)}

    def summary(self, path: Path, sequences: int, frames: int, seconds: float) -> dict:
        """Return a summary of a written data set, for the last line of the command and for benchmarks."""
        return {
            "subjects": self.subjects, "sequences": sequences, "frames": frames, "seconds": seconds,
            "frames_per_second": frames / seconds, "output_path": str(path),
        }  # fmt: skip
