"""The settings that determine every frame of a set of synthetic walkers."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from model.common.errors import UsageError
from model.synthetic.camera import VIEWS

LIMIT = 2**62  # of all numbers, so that the sum of two of them fits into 64 bits
VERSION = 2  # raise it whenever the same settings give different pixels
SETTINGS_FILE = "synthetic.json"  # next to the folders of the subjects, where readers of the tree ignore files
TAKES = {"nm": 6, "bg": 2, "cl": 2}  # number of takes per condition, as in CASIA-B
SEQ_TYPES = tuple(f"{condition}-{take:02d}" for condition, count in TAKES.items() for take in range(1, count + 1))


def _setting(default: Any, meaning: str, least: int | None = None) -> Any:
    """Return the field of a setting. `meaning` is the help text of its option; a number has the least value `least`."""
    return field(default=default, metadata={"meaning": meaning, "least": least})


# fmt: off
@dataclass(frozen=True, kw_only=True)
class WalkerSettings:
    """All settings of a data set. They determine every byte of the data set on one kind of device.

    `views` and `takes` are put into the order of VIEWS and SEQ_TYPES, without duplicates.

    Raises UsageError for a value out of range and for an unknown view or take.
    """

    subjects: int = _setting(12, "number of subjects", 1)
    frames: int = _setting(60, "frames per sequence; an average walker needs 86 frames for the whole line", 1)
    seed: int = _setting(0, "random seed; each seed gives different people", 0)
    first_subject: int = _setting(1, "number of the first subject", 1)
    views: tuple[str, ...] = _setting(VIEWS, "names of the views, for example 000,090 (default: all)")
    takes: tuple[str, ...] = _setting(SEQ_TYPES, "names of the takes, for example nm-01,bg-01 (default: all)")
    noise: float = _setting(1.0, "strength of the segmentation noise: 0 means none, 1 is the noise of CASIA-A", 0)
    cameras: float = _setting(0.0, "how far the cameras of each take deviate from the cameras of CASIA-B: 0 means not "
                              "at all, 1 means a different place for every take", 0)
    bodies: float = _setting(1.0, "how much bodies differ: 0 means not at all, 1 means as much as in real people", 0)
    gaits: float = _setting(1.0, "how much gaits differ: 0 means not at all, 1 means as much as in real people", 0)
    # fmt: on

    def __post_init__(self):
        for setting in fields(self):
            name, known, least = setting.name, setting.default, setting.metadata["least"]
            value = getattr(self, name)
            if least is None:
                unknown = [one for one in value if one not in known]
                if unknown or not value:
                    found = f"{unknown[0]!r} is not known" if unknown else "is empty"
                    raise UsageError(f"--{name}: {found}; give one or more of {', '.join(known)}")
                object.__setattr__(self, name, tuple(one for one in known if one in value))
            elif not least <= value < LIMIT:
                raise UsageError(f"--{name}: must be at least {least} and less than 2**62, not {value}")

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
