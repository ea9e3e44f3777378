"""Make the pictures of the README from the output of a tiny quickstart."""

import importlib.util
import shutil

import pytest
import torch
from PIL import Image
from scripts import ROOT
from walkers import write_aligned_tree

from model.common.errors import UserError
from model.network import GaitSet

pytestmark = pytest.mark.slow

spec = importlib.util.spec_from_file_location("bench_pictures", ROOT / "test/bench/pictures.py")
pictures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pictures)


def test_pictures_are_made_from_a_quickstart(tmp_path):
    work = tmp_path / "quickstart"
    takes = ("nm-01", "nm-02", "nm-03", "bg-01", "cl-01")
    write_aligned_tree(work / "walkers-pre", 4, takes, ("000", "036", "090", "126", "144", "180"), frames=4)
    shutil.copytree(work / "walkers-pre", work / "walkers")
    (work / "results").mkdir()
    (work / "results/quickstart.html").write_text("<!doctype html><head></head><main><section id=mistakes>x</main>")
    (work / "checkpoint/GaitSet").mkdir(parents=True)
    torch.save(GaitSet(hidden_dim=8).state_dict(), work / "checkpoint/GaitSet/a-00001-encoder.ptm")
    options = ["--work_path", str(work), "--output_path", str(tmp_path / "out"), "--seq_type", "bg-01"]
    with pytest.raises(UserError, match="021/bg-01/090: no such folder"):
        pictures.main(options)
    pictures.main([*options, "--subject", "002"])
    names = {path.name for path in (tmp_path / "out").iterdir()}
    always = {"pipeline.png", "walkers.png", "video.png"}
    shown = {"report.png", "mistakes.png", "who.png"} if any(map(shutil.which, pictures.BROWSERS)) else set()
    assert names == always | shown
    for name in names:
        with Image.open(tmp_path / "out" / name) as image:
            assert image.size[0] > 1000
