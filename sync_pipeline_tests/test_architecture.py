"""The rooms keep their walls: imports point downwards, the environment has one reader, money is never a float."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "sync_pipeline"

# Each run of Dagster is a fresh process that imports the definitions first: what they load, every run waits for.
TOO_HEAVY_FOR_DEFINITIONS = {
    "lxml",
    "numpy",
    "pandas",
    "pandera",
    "polars",
    "pyarrow",
    "simple_salesforce",
    "stripe",
    "zeep",
}


def modules(*rooms: str) -> Iterator[tuple[str, ast.Module]]:
    """Path below the package, and syntax tree, of every module in `rooms`."""
    for room in rooms:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def dotted(node: ast.AST) -> str:
    """`os.environ` for the attribute access that reads so, else an empty string."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name) if inner := dotted(value):
            return f"{inner}.{name}"
    return ""


def names_of(node: ast.AST) -> set[str]:
    """What a node refers to, as dotted names: attribute access, and imports of single names."""
    if isinstance(node, ast.ImportFrom):
        return {f"{node.module}.{alias.name}" for alias in node.names}
    return {dotted(node)}


def test_import_contracts_hold() -> None:
    linter = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_definitions_load_no_heavy_library() -> None:
    """Loaded as Dagster loads it, in a fresh interpreter."""
    program = (
        "import json, sys\n"
        "from dagster._core.workspace.autodiscovery import loadable_targets_from_python_module as load\n"
        "before = set(sys.modules)\n"
        "(target,) = load('sync_pipeline.definitions', working_directory=None)\n"
        "definitions = target.target_definition\n"
        "definitions = definitions() if callable(definitions) else definitions\n"
        "assert definitions.get_repository_def().get_all_jobs()\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}
    assert "sync_pipeline" in loaded
    assert loaded & TOO_HEAVY_FOR_DEFINITIONS == set()


def test_only_config_reads_the_environment() -> None:
    readers = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv"}
    found = {
        path
        for path, tree in modules("")
        for node in ast.walk(tree)
        if names_of(node) & readers and Path(path).parts[0] != "config"
    }
    assert found == set()


@pytest.mark.parametrize("room", ["core", "frames"])
def test_money_is_never_a_float(room: str) -> None:
    """No float is made in the pure rooms, by literal or by conversion. Refusing one with isinstance is fine."""
    found = [
        f"{path}:{node.lineno}"
        for path, tree in modules(room)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Constant) and isinstance(node.value, float))
        or (isinstance(node, ast.Call) and dotted(node.func) == "float")
    ]
    assert found == []


@pytest.mark.parametrize("room", ["core", "frames"])
def test_the_pure_rooms_read_no_clock(room: str) -> None:
    clocks = ("datetime.now", "datetime.utcnow", "datetime.today", "date.today")
    found = [
        f"{path}:{node.lineno}"
        for path, tree in modules(room)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and dotted(node.func).endswith(clocks)
    ]
    assert found == []
