"""Migrations: numbered files in order, once each; what does not fit is refused with its cure."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from control import migrate, sql
from control.migrate import Applied, Migration, SchemaError

FIRST = "CREATE TABLE organisation (id integer);\n"
SECOND = "CREATE TABLE second (id integer);\n"


def folder_of(at: Path, **files: str) -> Path:
    for name, text in files.items():
        (at / f"{name[1:]}.sql").write_text(text)
    return at


async def applied_names(url: str) -> list[str]:
    conn = await asyncpg.connect(url)
    try:
        rows = await conn.fetch(sql.load()["migration_list"])
    finally:
        await conn.close()
    return [row["name"] for row in rows]


async def test_files_are_applied_in_order_and_only_once(
    empty_database_url: str, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, _0001_core=FIRST)
    assert await migrate.migrate(empty_database_url, folder) == ["0001_core"]
    folder_of(tmp_path, _0002_more=SECOND)
    assert await migrate.migrate(empty_database_url, folder) == ["0002_more"]
    assert await migrate.migrate(empty_database_url, folder) == []
    assert await applied_names(empty_database_url) == ["core", "more"]


async def test_two_starts_at_one_time_apply_each_file_once(
    empty_database_url: str, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, _0001_core=FIRST, _0002_more=SECOND)
    starts = [migrate.migrate(empty_database_url, folder) for _ in range(3)]
    applied = await asyncio.gather(*starts)
    assert sorted(map(len, applied)) == [0, 0, 2]


async def test_a_file_that_fails_leaves_nothing_behind(
    empty_database_url: str, tmp_path: Path
) -> None:
    broken = "CREATE TABLE half (id integer);\nSELECT nonsense();\n"
    folder = folder_of(tmp_path, _0001_core=FIRST, _0002_bad=broken)
    with pytest.raises(SchemaError, match="0002_bad failed and was taken back whole"):
        await migrate.migrate(empty_database_url, folder)
    conn = await asyncpg.connect(empty_database_url)
    assert await conn.fetchval("SELECT to_regclass('half')") is None
    await conn.close()
    assert await applied_names(empty_database_url) == ["core"]


async def test_a_changed_file_is_refused(empty_database_url: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, _0001_core=FIRST)
    await migrate.migrate(empty_database_url, folder)
    folder_of(tmp_path, _0001_core=FIRST + "-- changed\n")
    with pytest.raises(SchemaError, match="applied from another file"):
        await migrate.migrate(empty_database_url, folder)


async def test_tables_without_a_record_are_refused(empty_database_url: str, tmp_path: Path) -> None:
    conn = await asyncpg.connect(empty_database_url)
    await conn.execute(FIRST)
    await conn.close()
    with pytest.raises(SchemaError, match="half restored"):
        await migrate.migrate(empty_database_url, folder_of(tmp_path, _0001_core=FIRST))


async def test_the_products_own_schema_is_current_after_it_was_applied(database_url: str) -> None:
    conn = await asyncpg.connect(database_url)
    await migrate.check(conn)
    await conn.execute("DELETE FROM schema_migration")
    with pytest.raises(SchemaError, match="opscenter migrate"):
        await migrate.check(conn)
    await conn.close()


def known(*numbers: int) -> list[Migration]:
    return [Migration(number, f"m{number}", f"sum{number}", "") for number in numbers]


def recorded(*numbers: int) -> list[Applied]:
    return [Applied(number, f"m{number}", f"sum{number}") for number in numbers]


@pytest.mark.parametrize(
    ("applied", "sentence"),
    [
        pytest.param(recorded(1, 2, 3), "newer than this program", id="newer"),
        pytest.param(recorded(1, 3), "has a gap", id="gap"),
        pytest.param(recorded(7), "has a gap", id="unknown number"),
        pytest.param([Applied(1, "other", "sum1")], "another file", id="another name"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(applied: list[Applied], sentence: str) -> None:
    with pytest.raises(SchemaError, match=sentence):
        migrate.compare(known(1, 2), applied)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        pytest.param("_2_short", FIRST, "no migration", id="name"),
        pytest.param("_0002_later", FIRST, "without a gap", id="gap"),
        pytest.param("_0001_own", "BEGIN;\nSELECT 1;\nCOMMIT;\n", "half applied", id="transaction"),
    ],
)
def test_files_that_could_do_harm_are_refused(
    tmp_path: Path, name: str, text: str, sentence: str
) -> None:
    with pytest.raises(SchemaError, match=sentence):
        migrate.migrations(folder_of(tmp_path, **{name: text}))


async def test_every_named_query_is_valid_sql(database_url: str) -> None:
    """Each is prepared against the real schema, so a renamed column is noticed here."""
    conn = await asyncpg.connect(database_url)
    try:
        for name, statement in sql.load().items():
            try:
                await conn.prepare(statement)
            except asyncpg.PostgresError as problem:
                pytest.fail(f"{name}: {problem}")
    finally:
        await conn.close()


def test_a_name_that_occurs_twice_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "one.sql").write_text("-- name: same\nSELECT 1\n")
    (tmp_path / "two.sql").write_text("-- name: same\nSELECT 2\n")
    with pytest.raises(sql.SqlError, match="same exists already"):
        sql.read(tmp_path)


def test_a_statement_without_a_name_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "one.sql").write_text("SELECT 1\n-- name: one\nSELECT 1\n")
    with pytest.raises(sql.SqlError, match="before the first"):
        sql.read(tmp_path)


async def test_providers_from_before_the_catalogue_get_its_names(
    empty_database_url: str, tmp_path: Path
) -> None:
    """Those whose names were usual, but are not the catalogue's."""
    whole = sql.schema_folder()
    for file in sorted(whole.glob("*.sql"))[:10]:
        (tmp_path / file.name).write_text(file.read_text())
    await migrate.migrate(empty_database_url, tmp_path)
    conn = await asyncpg.connect(empty_database_url)
    names = {"xai": "x-ai", "grok": "x-ai", "gemini": "google", "hf": "huggingface"}
    names |= {"mistralai": "mistral", "together-ai": "together", "groq": "groq", "house": "house"}
    await conn.executemany(
        "INSERT INTO provider (name, adapter, base_url) VALUES ($1, 'compatible', 'https://x.test')",
        [(name,) for name in names],
    )
    await migrate.migrate(empty_database_url)
    rows = await conn.fetch("SELECT name, catalogue FROM provider WHERE adapter = 'compatible'")
    await conn.close()
    assert {row["name"]: row["catalogue"] for row in rows} == names
