"""List the pages of the documentation and the commands that they contain."""

import re
from pathlib import Path

from scripts import ROOT

PAGES = sorted([*ROOT.glob("README*.md"), *(ROOT / "model").glob("README*.md"), *(ROOT / "model/docs").glob("*.md"),
                ROOT / "test/bench/README.md"])  # fmt: skip


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Return all commands in the code blocks of a page, and the commands of this repository in its text."""
    found = []
    for block in blocks(page):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            line = re.split(r"\s#\s|^\s*#", line)[0].rstrip()
            found += [part.strip() for part in line.split(" && ") if part.strip()]
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]
    return found + [code for code in inline if re.match(r"(python3?|torchrun) \S+|bash test/\S+\.sh", code)]
