"""The layers of `model/`: a folder imports only from lower layers, at the top of a module and inside functions."""

import ast
from pathlib import Path

from scripts import ROOT

# From the lowest layer to the highest.
LAYERS = (
    "common", "devices", "network", "data/raw", "data", "synthetic", "checkpoints", "silhouettes", "embeddings",
    "evaluation", "config", "settings", "training", "export", "runtime", "report",
    "initialization", "identify", "commands",
)  # fmt: skip
# Modules whose only purpose is that an old `python -m` command still works.
FORWARDS = ("model/embed.py", "model/launch.py", "model/data/synthetic.py")


def layer_of(module: str) -> str | None:
    """Return the layer of a module such as `model.data.raw.tree`. Return None for `model` itself."""
    path = "/".join(module.split(".")[1:])
    fitting = [layer for layer in LAYERS if path == layer or path.startswith(f"{layer}/")]
    assert fitting or not path, f"{module} belongs to no layer"
    return max(fitting, key=len, default=None)


def imported_modules(path: Path) -> list[tuple[int, str]]:
    """Return the line and the dotted name of each import from `model` in a file, also inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] == "model"]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: relative import"
            if node.module and node.module.split(".")[0] == "model":
                # An imported name is a folder or a module (`from model.data import store`), or an object in a module.
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                found += [(node.lineno, name if _exists(name) else node.module) for name in names]
    return found


def _exists(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_no_module_imports_a_layer_above_its_own():
    upward = []
    for path in sorted((ROOT / "model").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name in FORWARDS:
            continue
        if name == "model/__init__.py":  # every module may import it, so it may import none
            assert not imported_modules(path)
            continue
        own = layer_of(name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        for line, module in imported_modules(path):
            other = layer_of(module)
            if other is not None and LAYERS.index(other) > LAYERS.index(own):
                upward.append(f"{name}:{line}: {own} imports {module}")
    assert not upward, "\n".join(upward)


def test_the_check_sees_imports_inside_functions(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("import os\n\ndef f():\n    from model.report import page\n    import model.config\n")
    assert imported_modules(path) == [(4, "model.report.page"), (5, "model.config")]
    assert LAYERS.index(layer_of("model.report.page")) > LAYERS.index(layer_of("model.data.raw.tree"))
    assert layer_of("model.data.raw.tree") == "data/raw" and layer_of("model.data.store") == "data"


def test_the_top_of_the_package_holds_layers_and_forwards():
    """The first test rejects modules that are not in LAYERS or FORWARDS."""
    others = {path.name for path in (ROOT / "model").iterdir() if path.is_file() and path.suffix != ".py"}
    assert others == {"README.md", "README.zh-CN.md"}
    for forward in FORWARDS:
        assert len((ROOT / forward).read_text(encoding="utf-8").splitlines()) <= 12
