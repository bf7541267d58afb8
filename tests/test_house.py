"""Tests of the house itself: what no linter knows and every change has to keep."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from docs import generate
from tests.house import PACKAGES, ROOT, dotted, modules, name_of, run, tracked

BELOW = {"proxy": {"plugins", "control"}, "plugins": {"control"}, "control": set[str]()}
NOT_OF_THE_DOOR = (
    *("fastapi", "asyncpg", "stripe", "typer", "starlette", "pydantic"),
    *("tiktoken", "regex", "requests"),
)
LINES_MAX = 300
# Longer than that, each with its reason.
LONG: dict[str, str] = {
    "proxy/errors.py": "one table of sentences, read from top to bottom",
}


# Imports ------------------------------------------------------------------------------


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} imports relatively; write the whole name"
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_down_only(package: str) -> None:
    """control -> plugins -> proxy; tests and benches are imported by none."""
    forbidden = BELOW[package] | {"tests", "bench", "docs"}
    found = {name_of(path): set(imports(path)) & forbidden for path in modules(package)}
    assert {name: up for name, up in found.items() if up} == {}


def test_the_door_loads_nothing_of_the_control_plane() -> None:
    """What serves requests starts fast and stays small: no web framework, no SQL, no CLI."""
    names = [dotted(path) for path in modules("proxy")]
    code = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
print(*{{name.partition('.')[0] for name in sys.modules}})
"""
    loaded = set(run(code).split())
    assert loaded & {*NOT_OF_THE_DOOR, "plugins", "control"} == set()


def test_nothing_calls_out_while_it_is_imported() -> None:
    names = [dotted(path) for path in modules(*PACKAGES) if path.stem != "__main__"]
    code = f"""
import importlib, socket
def refuse(*arguments, **named):
    raise AssertionError(f"an import opens a connection: {{arguments}}")
socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse
socket.getaddrinfo = refuse
for name in {names!r}:
    importlib.import_module(name)
"""
    run(code)


def test_nobody_else_brings_our_package_names() -> None:
    """The names are plain words; another distribution that brings one would hide ours."""
    found = packages_distributions()
    owners = {name: set(found.get(name, [])) - {"opscenter"} for name in PACKAGES}
    assert {name: others for name, others in owners.items() if others} == {}


# Files --------------------------------------------------------------------------------


def test_tests_are_no_package() -> None:
    assert sorted((ROOT / "tests").rglob("__init__.py")) == []


def test_no_file_grows_beyond_reading() -> None:
    lines = {name_of(path): len(path.read_text().splitlines()) for path in modules(*PACKAGES)}
    long = {name for name, count in lines.items() if count > LINES_MAX}
    assert long == set(LONG), f"over {LINES_MAX} lines: split it, or say in LONG why not"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_has_a_map(package: str) -> None:
    """Its __init__.py says what is in it; without one, any other distribution could add to it."""
    folders = {path.parent for path in modules(package)}
    assert [name_of(one) for one in sorted(folders) if not (one / "__init__.py").exists()] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_says_what_it_is_for(package: str) -> None:
    silent = [
        name_of(p) for p in modules(package) if not ast.get_docstring(ast.parse(p.read_text()))
    ]
    assert silent == []


def test_nothing_is_left_undone() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    places = [
        *modules(*PACKAGES),
        *(ROOT / "schema").rglob("*.sql"),
        *(ROOT / "proxy").rglob("*.lua"),
    ]
    assert [name_of(path) for path in places if marks.search(path.read_text())] == []


def test_no_registry_is_named() -> None:
    """Where packages come from is the business of the machine that installs them."""
    hosts = [".".join(parts).encode() for parts in (
        ("pypi", "org"), ("files", "pythonhosted", "org"), ("registry", "npmjs", "org"),
        ("proxy", "golang", "org"), ("deb", "debian", "org"),
    )]  # fmt: skip
    found = [name_of(path) for path in tracked() if any(h in path.read_bytes() for h in hosts)]
    assert found == []


def test_loggers_are_named_for_the_product() -> None:
    """`opscenter.<folder>.<file>`, so that one line of configuration catches all."""
    wrong = []
    for path in modules(*PACKAGES):
        for name in re.findall(r"getLogger\(([^)]*)\)", path.read_text()):
            if not name.removeprefix("f").startswith('"opscenter.'):
                wrong.append((name_of(path), name))
    assert wrong == []


# Pages --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", generate.PAGES)
def test_generated_pages_are_current(name: str) -> None:
    """Settings, errors, commands, metrics and routes: as the code has them."""
    present, wanted = generate.page(name)
    assert present == wanted, f"docs/{name} is stale: run `make docs`"


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for page in (path for path in tracked() if path.suffix == ".md"):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append((name_of(page), target))
    assert broken == []


def test_everything_under_make_is_told_by_help() -> None:
    """CI runs what people run."""
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    helped = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for goal in (
        "test",
        "format",
        "lint",
        "types",
        "tests",
        "bench-smoke",
        "micro",
        "bench",
        "docs",
        "lock",
        "image",
    ):
        assert f"make {goal} " in helped.stdout


def test_locks_name_what_the_project_wants() -> None:
    """Every dependency is in the locks, with hashes and without an address."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for lock, wanted in (
        ("requirements.lock", project["dependencies"]),
        (".ci/dev.lock", project["dependencies"] + project["optional-dependencies"]["dev"]),
    ):
        text = (ROOT / lock).read_text()
        missing = [
            w for w in wanted if not re.search(rf"^{_distribution(w)}==", text, re.MULTILINE)
        ]
        assert missing == []
        assert "://" not in text
        assert text.count("==") <= text.count("--hash=")


def _distribution(requirement: str) -> str:
    return re.split(r"[<>=\[; ]", requirement)[0]
