"""Compare streamed impostor counts with brute force in numpy, and check the memory that streaming needs."""

import sys
from itertools import product

import numpy as np
import pytest
import torch
from scripts import ROOT, run_quietly
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from model.evaluation.distance import squared_length
from model.evaluation.gallery_pieces import ROW_MULTIPLE, sizes_within
from model.evaluation.protocols import Plan
from model.evaluation.streaming import CPU_BYTES, Streaming, count_closer_impostors, default_bytes

CPU = torch.device("cpu")
LEAST = 0  # a memory limit in bytes that gives the smallest chunks and pieces


def make_plan(probe_rows: np.ndarray, gallery_rows: np.ndarray, gallery_view: np.ndarray, views: int) -> Plan:
    """Return a plan whose probes all have the same condition and view, because these do not matter here."""
    zeros = np.zeros(len(probe_rows), np.int64)
    order = np.argsort(gallery_view, kind="stable")
    counts = np.bincount(gallery_view, minlength=views)
    names = tuple(str(view) for view in range(views))
    return Plan(("NM",), names, probe_rows, zeros, zeros, gallery_rows[order], counts, ())


def ragged(seed: int = 0, galleries: int = 300, probes: int = 70) -> tuple[np.ndarray, Plan]:
    """Return subjects and a plan with views of different sizes, one empty view, and probes with many or no mates."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(galleries + probes + 20)  # 20 rows are neither probe nor gallery
    subject = rng.integers(0, 60, len(rows))
    subject[rows[:5]] = 77  # probes without a mate
    view = rng.choice([0, 1, 3, 4], galleries, p=[0.6, 0.25, 0.1, 0.05])  # no gallery in view 2
    return subject, make_plan(rows[:probes], rows[probes : probes + galleries], view, 5)


def by_hand(embeddings: np.ndarray, subject: np.ndarray, plan: Plan) -> np.ndarray:
    """Return impostor counts [m, v, r] from exact squares of integers."""
    x = embeddings.astype(np.int64)
    view = np.repeat(np.arange(len(plan.views)), plan.gallery_counts)
    lists = []
    for p in plan.probe_rows:
        squares = ((x[plan.gallery_rows] - x[p]) ** 2).sum(axis=1)
        right = subject[plan.gallery_rows] == subject[p]
        for v in range(len(plan.views)):
            mates, wrong = np.sort(squares[right & (view == v)]), squares[~right & (view == v)]
            lists.append([int((wrong <= mate).sum()) for mate in mates])
    most = max(1, *map(len, lists))
    padded = [counts + [-1] * (most - len(counts)) for counts in lists]
    return np.array(padded).reshape(len(plan.probe_rows), len(plan.views), most)


def whole_numbers(rows: int, dim: int = 6, seed: int = 1) -> torch.Tensor:
    """Return small integers, so that float32 is exact and many distances are equal."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-2, 3, (rows, dim)).astype(np.float32))


def count(embeddings, subject, plan, chunk=1024, device_bytes=None) -> torch.Tensor:
    settings = Streaming(CPU, chunk, device_bytes)
    return count_closer_impostors(embeddings, squared_length(embeddings), subject, plan, settings)


OTHER_TYPES = [(7, LEAST, dtype) for dtype in (torch.float16, torch.bfloat16, torch.float64)]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("chunk", "device_bytes", "dtype"), [*product((1, 7, 1024), (LEAST, 20_000, None), (torch.float32,)), *OTHER_TYPES]
)
def test_counts_equal_a_loop(seed, chunk, device_bytes, dtype):
    subject, plan = ragged(seed)
    embeddings = whole_numbers(len(subject))
    expected = by_hand(embeddings.numpy(), subject, plan)
    assert (expected[:5] == -1).all() and (expected[:, 2] == -1).all() and expected.shape[-1] > 3
    kept = embeddings.to(dtype)
    impostors = count(kept, subject, plan, chunk, device_bytes)
    assert impostors.dtype == torch.int32
    np.testing.assert_array_equal(impostors.numpy(), expected)
    assert torch.equal(kept, embeddings.to(dtype))


@pytest.mark.parametrize("galleries", [ROW_MULTIPLE - 1, ROW_MULTIPLE, ROW_MULTIPLE + 1, 3 * ROW_MULTIPLE + 1])
@pytest.mark.parametrize("probes", [7, 8, 9, 17])
def test_incomplete_last_chunk_and_piece(galleries, probes):
    subject, plan = ragged(3, galleries, probes)
    embeddings = whole_numbers(len(subject))
    impostors = count(embeddings, subject, plan, 8, LEAST)
    np.testing.assert_array_equal(impostors.numpy(), by_hand(embeddings.numpy(), subject, plan))


@pytest.mark.parametrize("dim", [24, 1000])
@pytest.mark.parametrize("device_bytes", [LEAST, 3_000_000, None])
def test_collapsed_encoder_counts_all_impostors(dim, device_bytes):
    subject, plan = ragged()
    embeddings = torch.randn(1, dim, generator=torch.Generator().manual_seed(2)).repeat(len(subject), 1)
    expected = by_hand(np.zeros((len(subject), 1)), subject, plan)
    np.testing.assert_array_equal(count(embeddings, subject, plan, 16, device_bytes).numpy(), expected)


@pytest.mark.parametrize("galleries", [5, 7, 13, 33])
def test_collapsed_encoder_with_odd_gallery_size(galleries):
    # Some libraries compute the last columns of a product in a different order, which rounds differently.
    subject = np.append(np.arange(galleries), np.arange(galleries))
    plan = make_plan(np.arange(galleries), galleries + np.arange(galleries), np.zeros(galleries, np.int64), 1)
    for seed in range(8):
        embedding = torch.randn(1, 1000, generator=torch.Generator().manual_seed(seed))
        impostors = count(embedding.repeat(2 * galleries, 1), subject, plan, 3)
        assert (impostors == galleries - 1).all(), f"seed {seed}"


def test_equal_embeddings_in_other_pieces_are_ties():
    # Distances of equal embeddings are not exactly 0. Equal embeddings of other subjects must be as far as the mates.
    subject = np.repeat(np.arange(200), 2)
    centre = torch.randn(4, 300, generator=torch.Generator().manual_seed(3)) + 5
    embeddings = centre[torch.from_numpy(subject % 4)]
    plan = make_plan(np.arange(0, 400, 2), np.arange(1, 400, 2), np.zeros(200, np.int64), 1)
    impostors = count(embeddings, subject, plan, 32, LEAST)
    assert (impostors == 49).all()  # 50 of 200 subjects share an embedding


class Watch(TorchDispatchMode):
    """Count matrix products and the peak of newly allocated bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.products, self.peak, self._storages = 0, 0, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.products += function.overloadpacket is torch.ops.aten.addmm_
        given = {t.untyped_storage()._cdata for t in (*args, *(kwargs or {}).values()) if isinstance(t, torch.Tensor)}
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            storage = tensor.untyped_storage()
            if storage._cdata not in given:
                self._storages[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self._storages = {key: value for key, value in self._storages.items() if not value[0].expired()}
        inside = 0
        if function.overloadpacket is torch.ops.aten.sum and args[0].dtype == torch.bool:
            inside = args[0].numel() * result.element_size()  # for a sum, torch copies flags to the type of the result
        self.peak = max(self.peak, sum(size for _, size in self._storages.values()) + inside)
        return result


def test_almost_no_product_is_computed_twice():
    subject = np.tile(np.arange(300), 2)
    embeddings = whole_numbers(600)
    plan = make_plan(np.arange(60), np.arange(300, 600), np.arange(300) % 2, 2)
    with Watch() as watch:
        count(embeddings, subject, plan, 10, LEAST)
    chunks, pieces = 60, -(-300 // ROW_MULTIPLE)  # each chunk has one probe
    assert chunks * pieces <= watch.products < chunks * pieces + pieces
    with Watch() as watch:
        count(embeddings, subject, plan, 10)
    assert watch.products == 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("numbers", "device_bytes"), [(1500, 1 << 20), (1500, 3 << 20), (60, 1 << 20)])
def test_memory_stays_within_device_bytes(numbers, device_bytes, dtype):
    subject = np.tile(np.arange(1000), 2)
    # 1,500 numbers per embedding need 12 or 6 MB. 60 numbers need less than the distances.
    embeddings = torch.zeros(2000, numbers, dtype=dtype)
    plan = make_plan(np.arange(1000), np.arange(1000, 2000), np.arange(1000) % 3, 3)
    squares = squared_length(embeddings)
    with Watch() as watch:
        count_closer_impostors(embeddings, squares, subject, plan, Streaming(CPU, 256, device_bytes))
    # Row numbers, squares and subjects of every row, and results of every probe are not limited.
    of_every_row, of_every_probe = 2000 * 16, 1000 * (64 + 3 * 12)
    assert device_bytes / 3 < watch.peak <= device_bytes + of_every_row + of_every_probe


@pytest.mark.parametrize("limit", [0, 10**6, 10**8, 10**10])
@pytest.mark.parametrize("probes", [1, 1000, 10**6])
@pytest.mark.parametrize("galleries", [1, 1000, 10**6])
def test_sizes_stay_within_the_limit(limit, probes, galleries):
    chunk, rows = sizes_within(limit, torch.empty(0, 256), probes, galleries, 1024)
    assert 1 <= chunk <= min(probes, 1024)
    assert rows % ROW_MULTIPLE == 0 and ROW_MULTIPLE <= rows < galleries + ROW_MULTIPLE
    used = chunk * 256 * 4 + rows * 256 * 4 + chunk * rows * 9
    assert used <= limit or (chunk, rows) == (1, ROW_MULTIPLE)


def test_default_bytes_on_the_cpu():
    assert default_bytes(CPU) == CPU_BYTES


MAPPED = """
import resource, sys
import numpy as np, torch
sys.path.insert(0, sys.argv[1])
from model.data.index import SequenceIndex
from model.evaluation.cross_view import evaluate_index
from model.evaluation.streaming import Streaming

def labels(count):
    names = [str(i // 2) for i in range(count)]
    return SequenceIndex.from_lengths(names, ["00", "01"] * (count // 2), ["000"] * count, [1] * count)

torch.set_num_threads(1)
embeddings = torch.from_numpy(np.memmap(sys.argv[2], np.float32, "r+", shape=(2000, 8192)))
evaluate_index(embeddings[:200].clone(), labels(200), "OUMVLP")  # the libraries allocate their memory now
allocated = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) << 10
resource.setrlimit(resource.RLIMIT_DATA, (allocated + (32 << 20), -1))
try:
    embeddings.clone()
    print("unlimited")
except RuntimeError:
    result = evaluate_index(embeddings, labels(2000), "OUMVLP", Streaming(device_bytes=16 << 20))
    print(result.accuracy[0, 0, 0, 0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the test limits and reads memory as on Linux")
def test_memory_mapped_file_is_never_completely_in_memory(tmp_path):
    # The file has 66 MB, and 32 MB of memory are allowed. Every second row is nearly equal to the row before it, so
    # rank-1 is 100.
    file = tmp_path / "embeddings.f32"
    mapped = np.memmap(file, np.float32, "w+", shape=(2000, 8192))
    rng = np.random.default_rng(0)
    mapped[::2] = rng.integers(-9, 10, (1000, 8192))
    mapped[1::2] = mapped[::2] + 1
    mapped.flush()
    run = run_quietly([sys.executable, "-c", MAPPED, str(ROOT), str(file)], None, {})
    if run.stdout.strip() == "unlimited":
        pytest.skip("this system does not limit the memory of a process")
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) == 100
