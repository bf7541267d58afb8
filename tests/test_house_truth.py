"""Tests of the house where money is: integers in Python, Lua that writes all or nothing, SQL that
has names and fits the schema.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from control import migrate, sql
from proxy.redis import scripts
from tests.house import LUA, PACKAGES, ROOT, SCRIPTS, modules, name_of

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

WRITES_FROM = "-- writes only from here"
READS = {
    "EXISTS", "GET", "HEXISTS", "HGET", "HGETALL", "HLEN", "HMGET", "INFO", "MGET", "TIME", "TYPE",
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
