"""Compare a deployed model with its ONNX file: the embeddings of both models, and the rank-1 computed from them."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from model.common.errors import UserError
from model.common.geometry import FLOAT32
from model.evaluation.cross_view import evaluate_index
from model.export.manifest import read_manifest
from model.runtime.bin_list import check_bins
from model.runtime.runners import run_and_record
from model.runtime.task import Task

log = logging.getLogger(__name__)


def compare(task: Task, onnx: Path, limit: int) -> dict[str, Any]:
    """Run a model and an ONNX file on the first `limit` sequences of a list, and return the differences.

    The results are kept in `compare/model` and `compare/onnx` next to `task.result_folder`.

    Returns:
        The values of `differences`, and the rank-1 of both models in percent by condition. If the sequences have no
        rank-1, `rank1_problem` is the reason.

    Raises:
        UserError: if a model fails, or if the embeddings of the two models have different sizes.
    """
    if not onnx.is_file():
        raise UserError(f"--compare {onnx}: no such file; give the ONNX file from which the model was converted")
    if task.model.samefile(onnx):
        log.warning(
            "--model and --compare are the same file, %s, so their results are equal; to compare an om file, convert "
            "this ONNX file with test/pth2om.sh", onnx,
        )  # fmt: skip
    stems = [file.stem for file in check_bins(task.info, None)[:limit]]
    folder, name = task.next_to_results("compare"), task.result_folder.name
    tested = task._replace(result_folder=folder / "model" / name, share=(0, len(stems)))
    reference = tested._replace(
        runtime="onnxruntime", model=onnx, result_folder=folder / "onnx" / name, batch_size=None
    )
    found, expected = (_embeddings(one, stems) for one in (tested, reference))
    if found.shape != expected.shape:
        sizes = f"{found.shape[1]} and {expected.shape[1]}"
        raise UserError(f"{task.model} and {onnx}: their embeddings have {sizes} values; use two files of one model")
    return {
        "model": str(task.model), "runtime": task.runtime, "onnx": str(onnx), "sequences": len(stems),
        **differences(found, expected, stems), **_rank1_of_both(found, expected, stems, task.info),
    }  # fmt: skip


def differences(found: np.ndarray, expected: np.ndarray, stems: list[str]) -> dict[str, Any]:
    """Return how much the embeddings [n, d] of two models differ.

    Returns:
        The number of sequences with values that are not finite. Over the other sequences, the mean and lowest cosine
        similarity, the largest difference and the largest expected value, with the stems of the extreme sequences.
    """
    finite = np.isfinite(found).all(1) & np.isfinite(expected).all(1)
    facts: dict[str, Any] = {"not_finite": int((~finite).sum())}
    if not finite.any():
        return facts
    names = [stem for stem, use in zip(stems, finite, strict=True) if use]
    found, expected = found[finite].astype(np.float64), expected[finite].astype(np.float64)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosine = (found * expected).sum(1) / np.maximum(norms, np.finfo(np.float64).tiny)
    largest = np.abs(found - expected).max(1)
    return facts | {
        "cosine_mean": float(cosine.mean()),
        "cosine_lowest": float(cosine.min()), "cosine_lowest_of": names[int(cosine.argmin())],
        "largest_difference": float(largest.max()), "largest_difference_of": names[int(largest.argmax())],
        "largest_value": float(np.abs(expected).max()),
    }  # fmt: skip


def report_comparison(facts: dict[str, Any]) -> str:
    """Format the result of `compare` as text."""
    lines = ["compared    {model} ({runtime}) with {onnx} (onnxruntime), {sequences} sequences".format(**facts)]
    if facts["not_finite"]:
        lines.append(f"warning: {facts['not_finite']} sequences have values that are not finite; convert the model "
                     "with a higher --precision of test/pth2om.sh")  # fmt: skip
    if "cosine_mean" in facts:
        percent = 100 * facts["largest_difference"] / facts["largest_value"] if facts["largest_value"] else 0.0
        lines += [
            "cosine      mean {cosine_mean:.7f}, lowest {cosine_lowest:.7f} ({cosine_lowest_of})".format(**facts),
            "difference  largest {largest_difference:.3g} ({largest_difference_of}), ".format(**facts)
            + f"{percent:.3g} % of the largest value",
        ]
    if facts["rank1_problem"]:
        return "\n".join([*lines, f"rank-1      unknown: {facts['rank1_problem']}"])
    pairs = [f"{name} {value:.3f} / {facts['rank1_onnx'][name]:.3f}" for name, value in facts["rank1_model"].items()]
    return "\n".join([*lines, f"rank-1      {', '.join(pairs)} (model / ONNX, identical views included)"])


def _embeddings(task: Task, stems: list[str]) -> np.ndarray:
    """Run the model, and return its embeddings as [n, d] in the order of `stems`."""
    run_and_record(task)
    suffix = next(task.result_folder.iterdir()).stem[-2:]  # _0 or _1, depending on the runtime
    return np.stack([np.fromfile(task.result_folder / f"{stem}{suffix}.bin", FLOAT32) for stem in stems])


def _rank1_of_both(found: np.ndarray, expected: np.ndarray, stems: list[str], info: Path) -> dict[str, Any]:
    """Return the rank-1 of both models in percent by condition, with the protocol of the data set in the manifest."""
    try:
        manifest = read_manifest(info.with_suffix(".json"))
        position = {Path(entry["file"]).stem: i for i, entry in enumerate(manifest.entries)}
        index = manifest.labels.take(np.array([position[stem] for stem in stems]))
        if not (np.isfinite(found).all() and np.isfinite(expected).all()):
            raise UserError("an embedding contains values that are not finite")
        dataset = manifest.settings.get("dataset") or "CASIA-B"
        both = [evaluate_index(embeddings, index, dataset).including() for embeddings in (found, expected)]
    except KeyError as error:
        return {"rank1_problem": f"{info}: its entry {error} is not in the manifest; create the input files again"}
    except UserError as error:
        return {"rank1_problem": str(error)}
    return {"rank1_model": both[0], "rank1_onnx": both[1], "rank1_problem": None}
