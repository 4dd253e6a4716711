"""The rules of ARCHITECTURE.md that a program can check.

Imports run downward only, nothing is called by a name that says nothing, importing changes nothing,
files and functions stay short, and everything public is described.
"""

import ast
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bayespot"

LAYERS = (
    ("errors", "units", "runtime"),
    ("data", "records", "correlation"),
    ("graph",),
    ("potentials",),
    ("evaluate",),
    ("parameters",),
    ("likelihood",),
    ("posterior",),
    ("inference",),
    ("pending",),
    ("prediction",),
    ("scoring", "calculator", "testing", "export", "identifiability"),
    ("properties",),
    ("dynamics",),
    ("calibration",),
    ("validation",),
    ("oracles",),
    ("generate",),
    ("convergence",),
    ("active",),
    ("plots",),
    ("config",),
    ("report",),
    ("property_references",),
    ("demo", "runs"),
    ("cli",),
    ("__main__",),
)
"""Lowest first. A module may import from its own layer and from those above it in this list;
imports inside of functions count too."""

FORBIDDEN = {"utils", "util", "helpers", "helper", "common", "core", "misc", "manager", "tools"}

MAX_FILE, MAX_FUNCTION = 400, 60
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS = {
    "inference/nuts.py:nuts": "one chain's loop closes over what all chains share",
}


def sources():
    """Modules of the package; scripts that make data are no modules."""
    return [p for p in sorted(PACKAGE.rglob("*.py")) if p.name != "make.py"]


def dotted(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


MODULES = {dotted(p): p for p in sources()}


def imports(path):
    """(module of bayespot, line) of every import statement, wherever it stands."""
    found = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: imports are absolute here"
            # "from a.b import c" is the module a.b.c if there is one, else the module a.b
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in whole]
        else:
            continue
        found += [(n, node.lineno) for n in names if n == "bayespot" or n.startswith("bayespot.")]
    return found


def layer(module):
    top = module.split(".")[1]
    for rank, names in enumerate(LAYERS):
        if top in names:
            return rank
    raise AssertionError(f"{module} has no layer: give it one in {Path(__file__).name}")


def test_imports_run_downward():
    wrong = []
    for module, path in MODULES.items():
        if module == "bayespot":
            continue
        for target, line in imports(path):
            if target == "bayespot":
                if layer(module) < layer("bayespot.config"):
                    wrong.append(f"{module}:{line} imports the package itself")
            elif layer(target) > layer(module):
                wrong.append(f"{module}:{line} imports {target}, which lies above it")
    assert not wrong, "\n".join(wrong)


def test_no_cycles():
    """Also within a layer; a package's ``__init__`` is a node like any other."""
    graph = {
        module: {t for t, _ in imports(path) if t in MODULES and t not in ("bayespot", module)}
        for module, path in MODULES.items()
    }
    # The registry scans its own folder when it is called: that is what it is for.
    graph["bayespot.potentials.base"].discard("bayespot.potentials")
    done, trail = set(), []

    def walk(module):
        assert module not in trail, " -> ".join([*trail[trail.index(module):], module])
        if module in done:
            return
        trail.append(module)
        for target in sorted(graph[module]):
            walk(target)
        trail.pop()
        done.add(module)

    for module in sorted(graph):
        walk(module)


def test_names_say_what_they_hold():
    for path in sources():
        bad = {part.lower() for part in path.relative_to(PACKAGE).with_suffix("").parts} & FORBIDDEN
        assert not bad, f"{path.relative_to(ROOT)}: {bad} says nothing about the content"


def test_files_are_short():
    long = {
        str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines())
        for path in sources()
    }
    long = {name: n for name, n in long.items() if n > MAX_FILE}
    without = {n: k for n, k in long.items() if n not in LONG_FILES}
    assert not without, f"over {MAX_FILE} lines without a stated reason: {without}"
    assert max(long.values(), default=0) <= 1.5 * MAX_FILE, f"no reason is that good: {long}"
    stale = set(LONG_FILES) - set(long)
    assert not stale, f"short by now, take the reason away: {stale}"


def functions(tree, prefix=""):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield f"{prefix}{node.name}", node
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")


def code_lines(node):
    """Lines of a function without its signature and docstring."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return node.end_lineno - body[0].lineno + 1 if body else 0


def test_functions_are_short():
    long = {
        f"{path.relative_to(PACKAGE)}:{name}": code_lines(node)
        for path in sources()
        for name, node in functions(parse(path))
    }
    long = {name: n for name, n in long.items() if n > MAX_FUNCTION}
    without = {n: k for n, k in long.items() if n not in LONG_FUNCTIONS}
    assert not without, f"over {MAX_FUNCTION} lines without a stated reason: {without}"
    stale = set(LONG_FUNCTIONS) - set(long)
    assert not stale, f"short by now, take the reason away: {stale}"


def test_everything_public_is_described():
    bare = []
    for path in sources():
        tree, name = parse(path), str(path.relative_to(ROOT))
        if ast.get_docstring(tree) is None:
            bare.append(name)
        bare += [f"{name}: {what}" for what in undescribed(tree)]
    assert not bare, "no docstring:\n" + "\n".join(bare)


def undescribed(tree, prefix=""):
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if node.name.startswith("_") or "overload" in {
            d.id for d in node.decorator_list if isinstance(d, ast.Name)
        }:
            continue
        if ast.get_docstring(node) is None:
            yield f"{prefix}{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from undescribed(node, f"{prefix}{node.name}.")


def test_everything_public_is_annotated():
    bare = []
    for path in sources():
        for name, node in functions(parse(path)):
            if name.split(".")[-1].startswith("_"):
                continue
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            missing = [a.arg for a in arguments
                       if a.annotation is None and a.arg not in ("self", "cls")]
            if missing:
                bare.append(f"{path.relative_to(ROOT)}: {name}({', '.join(missing)})")
    assert not bare, "arguments without a type:\n" + "\n".join(bare)


@pytest.fixture(scope="module")
def after_import(tmp_path_factory):
    """What a fresh interpreter in an empty home looks like after ``import bayespot``."""
    home = tmp_path_factory.mktemp("home")
    script = textwrap.dedent("""
        import json, logging, os, sys, time, warnings
        environment, filters = dict(os.environ), list(warnings.filters)
        loggers = [logging.getLogger(), logging.getLogger("bayespot")]
        handlers = [list(logger.handlers) for logger in loggers]
        start = time.perf_counter()
        import bayespot
        seconds = time.perf_counter() - start
        print(json.dumps({
            "seconds": seconds,
            "modules": sorted({m.split(".")[0] for m in sys.modules}),
            "environment": environment == dict(os.environ),
            "filters": filters == list(warnings.filters),
            "handlers": handlers == [list(logger.handlers) for logger in loggers],
            "files": sorted(os.listdir(".")),
        }))
    """)
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT),
                   "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("BAYESPOT_CACHE", None)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=home, env=environment,
        capture_output=True, text=True, check=True, timeout=120,
    )
    return json.loads(run.stdout)


def test_importing_loads_no_heavy_library(after_import):
    heavy = {"jax", "numpyro", "numpy", "scipy", "ase", "matplotlib", "xarray", "typer"}
    assert not heavy & set(after_import["modules"])
    assert after_import["seconds"] < 1.0


def test_importing_changes_nothing(after_import):
    assert after_import["environment"], "an environment variable was set"
    assert after_import["filters"], "a warning filter was set"
    assert after_import["handlers"], "a log handler was added"
    assert after_import["files"] == [], "a file or folder was made in the home directory"


def test_using_it_does_not_switch_precision_by_itself():
    """The public names can be loaded without anything happening to JAX."""
    script = (
        "import bayespot, jax\n"
        "for name in dir(bayespot): getattr(bayespot, name)\n"
        "assert not jax.config.jax_enable_x64\n"
        "import jax._src.xla_bridge as b\n"
        "assert not b._backends, 'importing started a JAX backend'\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                         cwd=ROOT, timeout=300, check=False)
    assert run.returncode == 0, run.stderr


def test_the_tree_in_the_page_is_the_tree():
    """ARCHITECTURE.md has one line per file of the package, and no line for a file that is not."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    block = text.split("<!-- tree -->")[1].split("<!-- end of tree -->")[0]
    named = {word for line in block.splitlines() for word in line.split() if word.endswith(".py")}
    real = {p.name for p in PACKAGE.rglob("*.py") if p.name != "__init__.py"} | {"__init__.py"}
    assert named - {"fit.py"} >= real, f"not on the page: {real - named}"
    assert named - {"fit.py"} <= real, f"only on the page: {named - real}"
