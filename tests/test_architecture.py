"""The house of the project, enforced: who may import whom, how long a module is, what a recipe's header says."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

import pytest

import peftrec

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "peftrec"
RECIPES = REPOSITORY / "recipes"

# A package imports only packages above it.
ORDER = (
    "config", "launch", "metrics", "data", "methods", "encoders", "losses", "models", "training", "baselines",
    "evaluation", "retrieval", "explaining", "recipe", "propensity", "build", "frozen", "publishing", "recommender",
    "recommending", "encoding", "measuring", "evaluating", "detailing", "reporting", "comparing", "fitting", "run",
    "updating", "listing", "ensembling", "tuning", "serving", "benchmark", "cli", "__main__",
)  # fmt: skip
# What a package must never know although it stands above it, or comes from elsewhere.
FORBIDDEN = {
    "config": ("torch", "transformers", "polars", "numpy"),
    "launch": ("transformers", "polars", "peft"),
    "metrics": ("torch", "transformers", "polars", "pandas", "peftrec.config"),
    "data": ("torch", "transformers"),
    "methods": ("peftrec.data", "peftrec.metrics", "polars"),
    "losses": ("accelerate", "transformers", "peftrec.data", "peftrec.encoders", "peftrec.methods"),
    "models": ("accelerate", "polars", "safetensors"),
    "training": ("peftrec.metrics", "polars"),
    "baselines": ("transformers", "peft", "peftrec.training", "peftrec.methods"),
    "evaluation": ("accelerate", "transformers", "peftrec.training"),
    "recommender": ("accelerate", "peftrec.training"),
    "serving": ("accelerate", "peftrec.training"),
}
MAX_LINES = 300
MAX_RECIPE_LINES = 60
EMPTY_NAMES = ("utils", "util", "helpers", "helper", "common", "misc")


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything a file imports, at any depth and under TYPE_CHECKING too.

    `from a import b` yields `a.b`, which is a module or a name in module a. Names taken off the bare package, as in
    `peftrec.train`, are yielded too.
    """
    own = module_name(path, root)
    own_package = own if path.name == "__init__.py" else own.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                kept = own_package.split(".")[: len(own_package.split(".")) - node.level + 1]
                base = ".".join([*kept, *([base] if base else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == root.name:
            yield node.lineno, f"{root.name}.{node.attr}"
        elif isinstance(node, ast.Constant) and names_module(node.value, root):
            yield node.lineno, node.value.partition(":")[0]


def names_module(value: object, root: Path) -> TypeGuard[str]:
    """Whether a text names a module, as in registries and `import_module`; others (`peftrec.json`) do not."""
    form = rf"{root.name}\.({'|'.join(ORDER)})(\.\w+)*(:\w+)?"
    return isinstance(value, str) and re.fullmatch(form, value) is not None


def source_files(root: Path) -> list[Path]:
    files = sorted(root.rglob("*.py"))
    assert files, f"{root} holds no source"
    return files


def package_violations(root: Path) -> list[str]:
    """Return `file:line imports what` for every import that breaks the order or a ban."""
    found = []
    lazy = peftrec._MODULES
    for path in source_files(root):
        own = path.relative_to(root).with_suffix("").parts[0]
        if own == "__init__":
            continue  # the front door: names that resolve lazily, from everywhere
        if own not in ORDER:
            found.append(f"{path.relative_to(root)} is in no package of the order")
            continue
        for line, name in imported_modules(path, root):
            name = name.replace(f"{root.name}.", "peftrec.", 1) if name.startswith(f"{root.name}.") else name
            place = f"{path.relative_to(root)}:{line} imports {name}"
            if any(name == banned or name.startswith(f"{banned}.") for banned in FORBIDDEN.get(own, ())):
                found.append(f"{place}, which {own} must never know")
            parts = name.split(".")
            if parts[0] != "peftrec" or len(parts) < 2 or parts[1] in ("__version__", "__file__"):
                continue
            other = lazy[parts[1]].split(".")[1] if parts[1] in lazy else parts[1]
            if other not in ORDER:
                found.append(f"{place}, which is in no package of the order")
            elif ORDER.index(other) > ORDER.index(own):
                found.append(f"{place}, which stands below {own}")
    return found


def import_cycle(root: Path) -> list[str]:
    """Return modules that import each other in a ring at import time, or nothing.

    What stands in functions or under TYPE_CHECKING is not imported then, and may point back.
    """
    modules = {module_name(path, root): path for path in source_files(root)}
    graph = {
        name: {
            target
            for imported in _at_import_time(path, root)
            for target in (imported, imported.rpartition(".")[0])
            if target in modules and target != name
        }
        for name, path in modules.items()
    }
    # `from a import b` with b a module does not need a's own names.
    for name in graph:
        graph[name] = {t for t in graph[name] if not name.startswith(f"{t}.") or _names_from(modules[name], t, modules)}
    done: set[str] = set()
    for start in graph:
        ring = _walk(start, graph, [], done)
        if ring:
            return ring
    return []


def _at_import_time(path: Path, root: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in _top_level(tree.body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _top_level(node.orelse)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from _top_level(node.body)
        else:
            yield node


def _names_from(path: Path, package: str, modules: dict[str, Path]) -> bool:
    """Whether a file takes a name that a package's own `__init__` defines."""
    for node in _top_level(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            return any(f"{package}.{alias.name}" not in modules for alias in node.names)
    return False


def _walk(name: str, graph: dict[str, set[str]], trail: list[str], done: set[str]) -> list[str]:
    if name in trail:
        return [*trail[trail.index(name) :], name]
    if name in done:
        return []
    for target in sorted(graph[name]):
        ring = _walk(target, graph, [*trail, name], done)
        if ring:
            return ring
    done.add(name)
    return []


def shape_violations(root: Path) -> list[str]:
    """Return modules that are too long or have a name that says nothing."""
    found = []
    for path in source_files(root):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines >= MAX_LINES:
            found.append(f"{path.relative_to(root)} has {lines} lines; split it before {MAX_LINES}")
        if path.stem in EMPTY_NAMES or path.parent.name in EMPTY_NAMES:
            found.append(f"{path.relative_to(root)} says nothing about what it holds")
    return found


def recipe_files(folder: Path) -> list[Path]:
    """Return all recipes below a folder; `accelerate/` holds Accelerate's configs, which are none."""
    return sorted(path for path in folder.rglob("*.y*ml") if path.parent != folder / "accelerate")


def header_violations(path: Path, name: str) -> list[str]:
    """Return what the comment on top of a recipe leaves out."""
    lines = path.read_text(encoding="utf-8").splitlines()
    header = []
    for line in lines:
        if not line.startswith("#"):
            break
        header.append(line)
    text = "\n".join(header)
    wanted = {
        "the launch command": rf"peftrec train {re.escape(name)}(\s|$)",
        "the hardware": r"(?i)hardware:.*(core|cpu|gpu)",
        "HR@10 and NDCG@10": r"(?s)HR@10 0?\.\d{3,}.*NDCG@10 0?\.\d{3,}",
        "the time": r"(?i)time:.*\d+ ?(s|min|seconds|minutes|h)\b",
    }
    # A recipe for hardware that was not at hand says so, and claims nothing.
    if re.search(r"Result: +not run: no GPU was at hand", text) and re.search(r"Hardware:.*GPU", text):
        wanted |= {"HR@10 and NDCG@10": r"^(?!.*HR@10)(?s:.)*$", "the time": r"Time: +not run$"}
    found = [f"{name}: the header does not state {what}" for what, form in wanted.items() if not re.search(form, text)]
    if len(lines) >= MAX_RECIPE_LINES:
        found.append(f"{name} has {len(lines)} lines; a recipe has less than {MAX_RECIPE_LINES}")
    return found


def test_packages_import_only_what_stands_above_them() -> None:
    assert package_violations(PACKAGE) == []


def test_modules_do_not_import_each_other_in_rings() -> None:
    assert import_cycle(PACKAGE) == []


def test_modules_are_short_and_say_what_they_hold() -> None:
    assert shape_violations(PACKAGE) == []


def registries() -> tuple[Any, ...]:
    from peftrec.baselines import BASELINES
    from peftrec.data import ATTRIBUTES, SOURCES, SPLITS
    from peftrec.losses import LOSSES, NEGATIVES
    from peftrec.methods import METHODS
    from peftrec.models import SCORERS, USER_ENCODERS
    from peftrec.publishing.export import EXPORTS
    from peftrec.retrieval import INDEXES
    from peftrec.retrieval.reranking import RERANKERS
    from peftrec.retrieval.rules import RULES

    lists = INDEXES, RERANKERS, RULES
    return ATTRIBUTES, BASELINES, EXPORTS, SOURCES, SPLITS, LOSSES, NEGATIVES, METHODS, SCORERS, USER_ENCODERS, *lists


def test_every_registry_entry_resolves_and_knows_its_kind() -> None:
    from peftrec.config import Registry

    in_source = sum(
        isinstance(node, ast.Call) and ast.unparse(node.func) == Registry.__name__
        for path in source_files(PACKAGE)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )
    assert in_source == len(registries()), "a registry is missing here"
    for registry in registries():
        assert {kind: section.kind for kind, section in registry.classes().items()} == {
            kind: kind for kind in registry.kinds()
        }


def left_open(section: type) -> list[str]:
    """The methods and properties of a class that do nothing but say that a subclass must have them."""
    found = []
    for name, member in inspect.getmembers_static(section):
        function = member.fget if isinstance(member, property) else member
        if inspect.isfunction(function) and "NotImplementedError" in function.__code__.co_names:
            found.append(name)
    return found


def test_what_can_be_chosen_leaves_nothing_open() -> None:
    bases = {base for registry in registries() for section in registry.classes().values() for base in section.__mro__}
    assert sum(bool(left_open(base)) for base in bases) > 5, "the bases leave something open, or this finds nothing"
    for registry in registries():
        assert {kind: left_open(section) for kind, section in registry.classes().items()} == {
            kind: [] for kind in registry.kinds()
        }


def test_there_are_recipes() -> None:
    assert recipe_files(RECIPES)


@pytest.mark.parametrize("path", recipe_files(RECIPES), ids=lambda path: str(path.relative_to(RECIPES)))
def test_recipe_is_valid_short_and_says_how_it_did(path: Path) -> None:
    from peftrec.recipe import load_recipe

    load_recipe(path)
    assert header_violations(path, str(path.relative_to(REPOSITORY))) == []


class TestTheChecksThemselves:
    """Each check must find what it is there for."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        root = tmp_path / "peftrec"
        for name in ("config", "metrics", "data", "methods", "training", "data/sources"):
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / "__init__.py").write_text('"""Doc."""\n')
        (root / "__init__.py").write_text("from peftrec.training import loop\n")
        return root

    def test_a_clean_tree_passes(self, tree: Path) -> None:
        (tree / "training" / "loop.py").write_text("import torch\nfrom peftrec.data import x\nimport peftrec\n")
        (tree / "run.py").write_text("import peftrec\nv = peftrec.__version__\n")
        assert package_violations(tree) == []
        assert import_cycle(tree) == []
        assert shape_violations(tree) == []

    @pytest.mark.parametrize(
        ("file", "source"),
        [
            ("data/table.py", "from peftrec.methods import lora\n"),
            ("data/table.py", "def f():\n    import peftrec.training.loop\n"),
            ("data/sources/deep.py", "from ...methods import lora\n"),
            (
                "data/table.py",
                "import typing\nif typing.TYPE_CHECKING:\n    from peftrec.training import T\n",
            ),
            ("data/table.py", "import peftrec\npeftrec.train(1)\n"),
            ("data/table.py", "from peftrec import Recommender\n"),
            ("data/table.py", "from importlib import import_module\nimport_module('peftrec.training.loop')\n"),
            ("config/section.py", "import torch.nn\n"),
            ("config/section.py", "from peftrec.metrics import x\n"),
            ("metrics/ndcg.py", "def f():\n    from torch import nn\n"),
            ("metrics/ndcg.py", "import polars as pl\n"),
            ("training/loop.py", "from peftrec.metrics import ndcg\n"),
            ("methods/lora.py", "from peftrec.data import Dataset\n"),
            ("plumbing/pipe.py", "x = 1\n"),
        ],
    )
    def test_a_wrong_import_is_found(self, tree: Path, file: str, source: str) -> None:
        (tree / file).parent.mkdir(exist_ok=True)
        (tree / file).write_text(source)
        found = package_violations(tree)
        assert len(found) == 1
        assert found[0].startswith(file)

    def test_a_ring_is_found(self, tree: Path) -> None:
        (tree / "data" / "a.py").write_text("from peftrec.data.b import y\n")
        (tree / "data" / "b.py").write_text("def f():\n    from peftrec.data.a import x\n")
        assert import_cycle(tree) == []
        (tree / "data" / "b.py").write_text("from peftrec.data import a\n")
        assert sorted(set(import_cycle(tree))) == ["peftrec.data.a", "peftrec.data.b"]

    def test_a_ring_through_the_front_of_a_package_is_found(self, tree: Path) -> None:
        (tree / "data" / "__init__.py").write_text("from peftrec.data.a import x\n")
        (tree / "data" / "a.py").write_text("from peftrec.data import x\n")
        assert sorted(set(import_cycle(tree))) == ["peftrec.data", "peftrec.data.a"]

    def test_long_modules_and_empty_names_are_found(self, tree: Path) -> None:
        (tree / "data" / "long.py").write_text("x = 1\n" * MAX_LINES)
        (tree / "data" / "sources" / "utils.py").write_text("x = 1\n")
        assert len(shape_violations(tree)) == 2

    def test_a_header_that_says_too_little_is_found(self, tmp_path: Path) -> None:
        path = tmp_path / "recipes" / "a" / "b.yaml"
        path.parent.mkdir(parents=True)
        full = (
            "# Launch:   peftrec train recipes/a/b.yaml\n# Hardware: 2 cores\n"
            "# Result:   test HR@10 .1234, NDCG@10 .0567\n# Time:     12 s\n"
        )
        path.write_text(full + "data: 1\n")
        assert recipe_files(tmp_path / "recipes") == [path]
        assert header_violations(path, "recipes/a/b.yaml") == []
        for line in full.splitlines(keepends=True):
            path.write_text(full.replace(line, "# ...\n") + "data: 1\n")
            assert len(header_violations(path, "recipes/a/b.yaml")) == 1, line
        path.write_text(full + "data: 1\n" * MAX_RECIPE_LINES)
        assert len(header_violations(path, "recipes/a/b.yaml")) == 1

    def test_a_header_of_hardware_that_was_not_at_hand_says_so(self, tmp_path: Path) -> None:
        path = tmp_path / "recipe.yaml"
        full = (
            "# Launch: peftrec train recipes/a/b.yaml\n# Hardware: one GPU\n# Result: not run: no GPU was at hand\n"
            "# Time: not run\n"
        )
        path.write_text(full + "data: 1\n")
        assert header_violations(path, "recipes/a/b.yaml") == []
        for line in full.splitlines(keepends=True):
            path.write_text(full.replace(line, "# ...\n") + "data: 1\n")
            assert header_violations(path, "recipes/a/b.yaml"), line
        path.write_text(full.replace("one GPU", "2 cores") + "data: 1\n")
        assert len(header_violations(path, "recipes/a/b.yaml")) == 2


@pytest.mark.parametrize(
    ("name", "use_cpu", "precision"), [("cpu", True, "no"), ("one_gpu", False, "bf16")], ids=["cpu", "one_gpu"]
)
def test_accelerate_reads_its_configs_which_run_one_process(name: str, use_cpu: bool, precision: str) -> None:
    from accelerate.commands.config.config_args import ClusterConfig
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    path = RECIPES / "accelerate" / f"{name}.yaml"
    config = ClusterConfig.from_yaml_file(str(path))
    assert (config.use_cpu, config.num_processes, config.mixed_precision) == (use_cpu, 1, precision)
    given = ["--config_file", str(path), "-m", "peftrec", "train", "recipe.yaml"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(given))
    assert (arguments.num_processes, arguments.mixed_precision, arguments.use_cpu) == (1, precision, use_cpu)
    assert (arguments.multi_gpu, arguments.dynamo_backend.upper()) == (False, "NO")
