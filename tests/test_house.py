"""Tests of the house itself: what no linter knows and every change has to keep."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import asyncpg
import pytest

from control import migrate, sql
from docs import generate
from proxy import scripts

ROOT = Path(__file__).parent.parent
PACKAGES = ("proxy", "plugins", "control")
BELOW = {"proxy": {"plugins", "control"}, "plugins": {"control"}, "control": set[str]()}
NOT_OF_THE_DOOR = ("fastapi", "asyncpg", "stripe", "typer", "starlette", "pydantic")
LINES_MAX = 300
# Longer than that, each with its reason.
LONG: dict[str, str] = {
    "proxy/http1.py": "one connection's states in one place: to split them would hide the machine",
    "control/lifecycle.py": "one life of the plugins, told in order",
}


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    names = [name for name in listed.stdout.decode().split("\0") if name]
    return [path for name in names if (path := ROOT / name).is_file()]


def run(code: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


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
    assert long - set(LONG) == set(), f"over {LINES_MAX} lines: split it, or say why not"


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


# Money --------------------------------------------------------------------------------

MONEY_FILES = (
    "pricing", "admit", "settle", "ledger", "booking", "money", "verify", "rebuild", "drain",
)  # fmt: skip
MONEY_WORDS = ("ucr", "cost", "amount", "credit", "balance", "hold", "held", "rate", "price")


@pytest.mark.parametrize("stem", MONEY_FILES)
def test_money_is_never_a_float(stem: str) -> None:
    """No `/`, no float literal, no float() where a name of money is near: `//` and divmod."""
    files = [path for path in modules("proxy", "control") if path.stem == stem]
    assert files, f"there is no {stem}.py any more; take it off the list"
    wrong = []
    for node in (node for path in files for node in ast.walk(ast.parse(path.read_text()))):
        divides = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
        if (divides or _is_float(node)) and _is_money(node):
            wrong.append(f"line {getattr(node, 'lineno', 0)}: {ast.unparse(node)}")
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.BinOp) and _is_money(node):
            wrong += [
                f"line {part.lineno}: {ast.unparse(node)}"
                for part in ast.walk(node)
                if isinstance(part, ast.Constant) and isinstance(part.value, float)
            ]
    assert wrong == []


def _is_float(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "float"


def _is_money(node: ast.AST) -> bool:
    names = (
        ast.unparse(n).lower() for n in ast.walk(node) if isinstance(n, ast.Name | ast.Attribute)
    )
    return any(word in name.rpartition(".")[2].split("_") for name in names for word in MONEY_WORDS)


# Lua ----------------------------------------------------------------------------------

LUA = sorted((ROOT / "proxy" / "lua").glob("*.lua"))
SCRIPTS = [path for path in LUA if path.stem != "prelude"]
WRITES_FROM = "-- writes only from here"
READS = {
    "EXISTS", "GET", "HEXISTS", "HGET", "HGETALL", "HLEN", "HMGET", "MGET", "TIME", "TYPE",
    "XINFO", "XLEN", "XRANGE", "XREVRANGE", "ZCARD", "ZCOUNT", "ZRANGE", "ZRANGEBYSCORE", "ZSCORE",
}  # fmt: skip
CALLS = re.compile(r"redis\.p?call\(\s*'(\w+)'")


def lua_code(path: Path) -> str:
    """Without its comments, line by line."""
    return "\n".join(line.partition("--")[0] for line in path.read_text().splitlines())


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_says_how_it_is_called(path: Path) -> None:
    """Its header names itself, its caller, the keys, the arguments and the reply; the caller is
    there, and the header's fixed keys are those that the code takes."""
    header = "".join(_header(path))
    assert header.startswith(f"-- {path.stem}: ")
    for heading in ("call:", "KEYS:", "ARGV:", "reply:"):
        assert f"-- {heading}" in header, f"the header lacks {heading}"
    called_by = re.search(r"-- call: .*?\b((?:proxy|control)/[\w/]+\.py)", header)
    assert called_by, "the header names no file that calls it"
    caller = (ROOT / called_by[1]).read_text()
    assert f'"{path.stem}"' in caller, f"{called_by[1]} does not call it"
    fixed = {int(n) for n in re.findall(r"\bKEYS\[(\d+)\]", lua_code(path))}
    told = {int(n) for n in re.findall(r"(?<![\w.])(\d+) ", _keys_line(header))}
    assert fixed <= told, f"takes KEYS {sorted(fixed - told)} that its header does not name"


def _header(path: Path) -> Iterator[str]:
    for line in path.read_text().splitlines(keepends=True):
        if not line.startswith("--"):
            return
        yield line


def _keys_line(header: str) -> str:
    return header.partition("-- KEYS:")[2].partition("-- ARGV:")[0].replace("..", " ")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_read_all_check_all_then_write(path: Path) -> None:
    """Before the line that says so, nothing writes: a refusal or a crash changes nothing."""
    text = path.read_text()
    before, mark, after = text.partition(WRITES_FROM)
    verbs = {verb.upper() for verb in CALLS.findall(before)}
    assert verbs <= READS, f"before the line `{WRITES_FROM}`: {sorted(verbs - READS)}"
    if not mark:
        assert "changes nothing" in "".join(_header(path)), "a script without writes says so"
    assert re.findall(r"redis\.p?call\((?!\s*')", text) == [], "a verb is written out"
    assert not mark or CALLS.findall(after), "it promises writes and has none"


@pytest.mark.parametrize("path", LUA, ids=lambda path: path.stem)
def test_scripts_do_nothing_that_costs_exactness(path: Path) -> None:
    """Lua's numbers are doubles: they are compared, never turned into text, stored or decoded."""
    code = lua_code(path)
    for word in (
        "HINCRBYFLOAT",
        "INCRBYFLOAT",
        "cjson",
        "cmsgpack",
        "tostring",
        "os.time",
        "math.random",
    ):
        assert word not in code
    assert not re.search(r"'(KEYS|SCAN|FLUSHDB|FLUSHALL)'", code), (
        "a script looks at named keys only"
    )


def test_scripts_are_registered_by_their_file_names() -> None:
    assert set(scripts.SCRIPTS) == {path.stem for path in SCRIPTS}


# SQL ----------------------------------------------------------------------------------


def test_migrations_are_numbered_and_named() -> None:
    found = migrate.migrations(ROOT / "schema")
    assert [one.number for one in found] == list(range(1, len(found) + 1))
    assert all(re.fullmatch(r"[a-z0-9_]+", one.name) for one in found)


async def test_every_named_query_fits_the_schema(database_url: str) -> None:
    """PostgreSQL itself prepares each one against the migrated database."""
    connection = await asyncpg.connect(database_url)
    wrong = {}
    try:
        for name, statement in sql.load().items():
            try:
                await connection.prepare(statement)
            except asyncpg.PostgresSyntaxError as problem:
                if ";" not in statement.rstrip().rstrip(";"):  # several cannot be prepared at once
                    wrong[name] = str(problem)
            except asyncpg.PostgresError as problem:
                wrong[name] = str(problem)
    finally:
        await connection.close()
    assert wrong == {}


def test_every_named_query_is_used() -> None:
    code = "".join(path.read_text() for path in modules("control", "plugins"))
    assert [name for name in sql.load() if f'"{name}"' not in code] == []


def test_python_holds_no_sql() -> None:
    """Statements have names and lie in schema/queries."""
    statement = re.compile(
        r"^\s*(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM)\s"
    )
    wrong = []
    for path in modules(*PACKAGES):
        for node in ast.walk(ast.parse(path.read_text())):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and statement.match(text.replace("\n", " ")):
                wrong.append(f"{name_of(path)} line {getattr(node, 'lineno', 0)}")
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


# The wheel ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as a release is, from what is tracked and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for path in tracked():
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(folder)]
    subprocess.run([*command, str(source)], check=True, capture_output=True, timeout=120)
    [made] = folder.glob("*.whl")
    return made


def test_the_wheel_holds_the_product_and_nothing_else(wheel: Path) -> None:
    """SQL and Lua come along; benches, tests and pages do not, nor anything that runs by itself."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert {f"proxy/lua/{path.name}" for path in LUA} <= names
    for path in (ROOT / "schema").rglob("*.sql"):
        assert f"control/schema/{path.relative_to(ROOT / 'schema').as_posix()}" in names
    assert [name for name in names if name.endswith((".pth", ".pyc"))] == []
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_installed_product_needs_no_checkout(wheel: Path, tmp_path: Path) -> None:
    """From an empty folder, with the wheel alone on the path: commands, migrations, queries."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    prefix = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r});"
    code = f"""{prefix}
import control, proxy.scripts
from control import migrate, sql
assert control.__file__.startswith({str(tmp_path)!r}), control.__file__
print(len(migrate.migrations()), len(sql.load()), len(proxy.scripts.SCRIPTS))
"""
    wanted = (len(migrate.migrations()), len(sql.load()), len(scripts.SCRIPTS))
    assert tuple(map(int, run(code, elsewhere).split())) == wanted
    for arguments, said in ((["version"], "opscenter "), (["--help"], "Usage: opscenter")):
        command = f"{prefix} sys.argv[1:] = {arguments!r}; from control.cli import main; main()"
        assert said in run(command, elsewhere)
