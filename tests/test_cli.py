"""The command as people and programs use it: over the unix socket, over a URL, with exit codes."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

from control import settings
from control.cli import app, output
from control.cli.client import part
from control.cli.usage import moment_id
from control.edge import Edge
from control.listen import Sockets, listening, serve_both
from control.secrets import Secrets, new_root, unlock
from proxy import ids
from tests.control_stage import Stage, book, stage

WAIT_S = 30


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Command:
    """Runs `opscenter` in this home."""

    environ: dict[str, str]
    stage: Stage

    async def __call__(self, *words: str, given: str = "", **environ: str) -> Ran:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "control", *words),
            env=self.environ | environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(WAIT_S):
            out, err = await process.communicate(given.encode())
        assert process.returncode is not None
        assert b"Traceback" not in err, err.decode()
        return Ran(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def answering(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Command]:
    """A control API behind the unix socket of this home, and on a port."""
    async with stage(home, database_url, redis_url, control_port="0") as made:
        wanted, stop = made.state.settings, asyncio.Event()
        with listening(wanted) as sockets:
            edge = Edge(made.app._app, wanted, made.state.counters)
            serving = asyncio.create_task(serve_both(wanted, edge, sockets, stop))
            yield Command(environment(home, database_url, redis_url, sockets), made)
            stop.set()
            await serving


@pytest.fixture
async def cli(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Command]:
    async with answering(home, database_url, redis_url) as made:
        yield made


def environment(home: Path, database_url: str, redis_url: str, sockets: Sockets) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "OPSCENTER_HOME": str(home),
        "OPSCENTER_DATABASE_URL": database_url,
        "OPSCENTER_REDIS_URL": redis_url,
        "OPSCENTER_CONTROL_PORT": str(sockets.tcp.getsockname()[1]),
    }


def url(cli: Command) -> str:
    return f"http://127.0.0.1:{cli.environ['OPSCENTER_CONTROL_PORT']}"


async def test_on_the_machine_itself_no_sign_in_is_needed(cli: Command) -> None:
    found = (await cli("whoami", "--json")).json
    assert (found["actor"], found["role"]) == ("local", "admin")


async def test_the_story_of_a_customer(cli: Command) -> None:
    """Given an organisation with credits, when its developer gets a key, then it is listed masked
    and can be revoked."""
    assert (await cli("org", "create", "Acme Ltd")).code == 0
    granted = await cli("credits", "grant", "acme ltd", "2.5", "--reason", "trial")
    assert "2.500000" in granted.out
    made = await cli("user", "create", "ann@acme.test", "--org", "Acme Ltd")
    assert "shown this once" in made.err
    key = await cli("key", "create", "app", "--user", "ann@acme.test", "--model", "ops/echo")
    text = re.search(r"sk_ops_\w{50}", key.out)
    assert text is not None
    listed = await cli("key", "list", "--user", "ann@acme.test")
    assert text[0] not in listed.out
    assert text[0][-4:] in listed.out
    revoked = await cli("key", "revoke", text[0][9:19], "--user", "ann@acme.test")
    assert "revoked" in revoked.out
    moved = (await cli("credits", "transactions", "--org", "Acme Ltd", "--json")).json
    assert [one["amount"] for one in moved["data"]] == ["2.500000"]


async def test_the_story_of_a_key(cli: Command) -> None:
    """Given a key with limits, they are edited, it is blocked, let in and given a new secret."""
    terms = ["--expires", "30d", "--models", "ops/*,ops/echo", "--allow-ip", "10.0.0.0/8"]
    terms += ["--parallel", "4", "--budget", "12.5", "--tag", "team=search", "--routes", "/v1/*"]
    terms += ["--scope", "llm,usage:read"]
    made = (await cli("key", "create", "--name", "app", *terms, "--json")).json
    assert (made["models"], made["budget"]) == (["ops/*", "ops/echo"], "12.500000")
    assert (made["addresses"], made["tags"]) == (["10.0.0.0/8"], {"team": "search"})
    taken = ["--expires", "none", "--models", "none", "--allow-ip", "none", "--parallel", "none"]
    taken += ["--budget", "none", "--tag", "none", "--routes", "none", "--scope", "none"]
    edited = (await cli("key", "edit", made["id"], "--name", "other", *taken, "--json")).json
    assert edited["name"] == "other"
    gone = ("expires_at", "models", "budget", "tags", "routes", "scopes")
    assert (made["scopes"], any(edited[name] for name in gone)) == (["llm", "usage:read"], False)
    assert (await cli("key", "block", made["id"], "--json")).json["status"] == "blocked"
    assert (await cli("key", "unblock", made["id"], "--json")).json["status"] == "active"
    rotated = await cli("key", "rotate", made["id"], "--overlap", "1h")
    assert "shown this once" in rotated.err
    shown = (await cli("key", "show", made["id"], "--json")).json
    assert shown["old_key_until"] is not None
    for words in (["edit", made["id"]], ["create"], ["rotate", made["id"], "--overlap", "1y"]):
        assert (await cli("key", *words)).code == 2


async def test_the_story_of_budgets(cli: Command) -> None:
    """Of an organisation, of a program's account, a member's share; what a model is told to be."""
    assert (await cli("org", "create", "Acme")).code == 0
    limits = ("--parallel", "50", "--budget", "1000")
    edited = (await cli("org", "edit", "Acme", *limits, "--json")).json
    assert (edited["parallel_max"], edited["budget"]) == (50, "1000.000000")
    assert (
        await cli("user", "create", "ann@acme.test", "--org", "Acme", "--no-password")
    ).code == 0
    member = await cli("user", "allocation", "ann@acme.test", "25", "--org", "Acme")
    assert "25.000000 in Acme" in member.out
    edited = (await cli("org", "edit", "Acme", "--budget", "none", "--json")).json
    assert edited["budget"] is None
    program = (await cli("service", "create", "search", "--json")).json
    limited = await cli("key", "edit", program["key_id"], "--user", "search@service", *limits)
    assert limited.code == 0, limited.err
    edits = ("--thinks", "--no-byok")
    model = (await cli("models", "edit", "ops/echo", *edits, "--json")).json
    assert model["byok_enabled"] is False
    told = await cli.stage.state.redis.command("HGET", "{ops}:snapshot", "models")
    assert b'"byok":false' in told.replace(b" ", b"")
    assert model["thinks"] is True
    assert (await cli("models", "edit", "ops/echo")).code == 2
    assert (await cli("org", "edit", "Acme")).code == 2


async def test_the_story_of_limits(cli: Command) -> None:
    """A plan, a team and a key are limited; a limit is edited and taken away."""
    assert (await cli("org", "create", "Acme")).code == 0
    await cli("user", "create", "ann@acme.test", "--org", "Acme", "--no-password")
    assert (await cli("plan", "create", "starter", "--note", "small", "--no-byok")).code == 0
    calls = ("--requests", "1000", "--per", "month")
    assert (await cli("limit", "add", "--plan", "starter", *calls)).code == 0
    given = await cli("org", "edit", "Acme", "--plan", "starter", "--json")
    assert given.json["plan"] == "starter"
    assert "starter  1" in (await cli("plan", "list")).out
    assert (await cli("team", "create", "search", "--org", "Acme")).code == 0
    await cli("team", "add", "Search", "ann@acme.test", "--org", "Acme")
    assert "ann@acme.test" in (await cli("team", "show", "search", "--org", "Acme")).out
    week = ("--credits", "25", "--per", "week", "--zone", "Europe/Berlin", "--anchor", "7")
    wanted = ("--team", "search", *week, "--warn-at", "80,95%", "--json")
    made = (await cli("limit", "add", "--organisation", "Acme", *wanted)).json
    assert (made["amount"], made["zone"], made["warn_at"]) == (
        *("25.000000", "Europe/Berlin"),
        [80, 95],
    )
    listed = (await cli("limit", "list", "--org", "Acme")).out
    assert "week from day 7 (Europe/Berlin)" in listed
    assert "plan starter" in listed
    number = str(made["id"])
    edited = await cli("limit", "edit", number, "--amount", "30", "--org", "Acme", "--json")
    assert edited.json["amount"] == "30.000000"
    assert (await cli("limit", "remove", number, "--org", "Acme")).code == 0
    assert (await cli("limit", "events", "--org", "Acme")).out == "No limit was near yet.\n"
    assert (await cli("team", "remove", "search", "--org", "Acme")).code == 0
    short = ("--rpm", "60", "--tpm", "9000", "--budget", "5", "--budget-per", "day")
    key = (await cli("key", "create", "app", *short, "--json")).json
    assert [(one["unit"], one["window"]) for one in key["limits"]] == [
        ("calls", "rolling"), ("tokens", "rolling"), ("credits", "day")
    ]  # fmt: skip
    for words in (["add", "--per", "60s"], ["add", "--requests", "x"], ["edit", "1"]):
        assert (await cli("limit", *words)).code == 2


async def moves(cli: Command, *words: str) -> str:
    """What was granted a moment ago can be moved when the drain has told Redis of it."""
    async with asyncio.timeout(WAIT_S):
        while (moved := await cli("credits", "move", *words)).code != 0:
            assert "credits are free" in moved.err
    return moved.out


async def test_the_story_of_credits_that_move(cli: Command) -> None:
    """To an organisation, on to another, to a member of it; and a key that he pays himself."""
    for name in ("Acme", "Beta"):
        assert (await cli("org", "create", name)).code == 0
    ann = ("user", "create", "ann@beta.test", "--org", "Beta", "--no-password")
    assert (await cli(*ann)).code == 0
    why, member = ("--reason", "r"), ("--member", "ann@beta.test")
    assert (await cli("credits", "grant", "Acme", "25", *why)).code == 0
    granted = await cli("credits", "grant", "Beta", "5", *why, *member, "--json")
    assert granted.json["balance"] == "5.000000"
    moved = await moves(cli, "10", "--from", "Acme", "--to", "Beta", *why, "--ref", "m1")
    assert ("15.000000" in moved, "10.000000" in moved) == (True, True)
    to_ann = ("--from", "Beta", "--to", "Beta", "--to-member", "ann@beta.test")
    await moves(cli, "2", *to_ann, *why, "--ref", "m2")
    found = (await cli("credits", "balance", "--org", "Beta", *member, "--json")).json
    assert (found["remaining"], found["own"]) == ("8.000000", "7.000000")
    refused = await cli("credits", "move", "9", "--from", "Beta", "--to", "Acme", *why)
    assert (refused.code, "8.000000 credits are free" in refused.err) == (1, True)
    listed = (await cli("credits", "transactions", "--org", "Beta", *member, "--json")).json
    assert [row["amount"] for row in listed["data"]] == ["2.000000", "5.000000"]
    made = await cli("key", "create", "a", "--user", "ann@beta.test", "--pay", "own", "--json")
    assert made.json["pay"] == ["own"]
    edit = ("key", "edit", made.json["id"], "--user", "ann@beta.test")
    edited = await cli(*edit, "--pay", "own,organisation", "--json")
    assert edited.json["pay"] == ["own", "organisation"]


async def test_the_story_of_a_job_and_of_a_correction(cli: Command) -> None:
    made = (await cli("job", "create", "run-7", "--max-cost", "250", "--json")).json
    assert (made["max_cost"], made["status"]) == ("250.000000", "open")
    assert "run-7" in (await cli("job", "list", "--org", "Platform")).out
    other = await cli("job", "create", "run-7", "--max-cost", "251", "--org", "Platform")
    assert (other.code, "250.000000" in other.err) == (1, True)
    closed = (await cli("job", "close", "run-7", "--org", "Platform", "--json")).json
    assert closed["status"] == "closed"
    assert "closed" in (await cli("job", "show", "run-7")).out
    why = ("--reason", "counted twice", "--json")
    taken = (await cli("credits", "adjust", "Platform", "--amount", "-5", *why)).json
    assert (taken["amount"], taken["balance"]) == ("-5.000000", "9995.000000")
    refused = await cli("credits", "refund", closed["organisation"], *why)
    assert (refused.code, "No charge" in refused.err) == (1, True)


async def test_a_password_signs_in_elsewhere(cli: Command) -> None:
    """Given a URL, the command takes it and never the socket."""
    there = {"OPSCENTER_CONTROL_URL": url(cli)}
    refused = await cli("whoami", **there)
    assert (refused.code, "opscenter login" in refused.err) == (1, True)
    words = ("login", "admin@localhost", "--password-stdin")
    signed_in = await cli(*words, given=cli.stage.first.password + "\n", **there)
    assert signed_in.code == 0, signed_in.err
    kept = Path(cli.environ["OPSCENTER_HOME"]) / "secrets" / "cli.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "person:" in (await cli("whoami", **there)).out
    assert (await cli("logout", **there)).code == 0
    assert (await cli("whoami", **there)).code == 1


async def test_a_token_of_the_environment_is_enough(cli: Command) -> None:
    there = {"OPSCENTER_CONTROL_URL": url(cli), "OPSCENTER_TOKEN": cli.stage.first.api_key}
    assert (await cli("whoami", "--json", **there)).json["actor"].startswith("key:")


async def test_what_the_api_refuses_is_a_sentence_and_exit_code_1(cli: Command) -> None:
    for words in (
        ("org", "show", "Nobody"),
        ("key", "revoke", "AAAAAAAAAA"),
        ("credits", "grant", "Platform", "1e3", "--reason", "r"),
        ("models", "remove", "no/model"),
    ):
        ran = await cli(*words)
        assert (ran.code, ran.out) == (1, ""), words
        assert ran.err.strip().endswith((".", "`", "`.")), ran.err


async def test_what_is_no_window_is_told_which_there_are(cli: Command) -> None:
    ran = await cli("limit", "add", "--organisation", "Platform", "--requests", "3", "--per", "0")
    assert (ran.code, ran.out) == (2, "")
    assert "day, week or month" in ran.err


async def test_misuse_is_exit_code_2(cli: Command) -> None:
    for words in (
        ("org", "create"),
        ("nonsense",),
        ("org", "limit", "Platform", "many"),
        ("login", "admin@localhost"),
        ("key", "create", "x", "--org", "Platform"),
        ("user", "create", "a@b.test", "--role", "king"),
    ):
        assert (await cli(*words)).code == 2, words


async def test_keys_of_providers_and_of_ones_own(cli: Command) -> None:
    """Read from standard input, shown masked, warned of, tested; a test that fails ends with 1."""
    secret = "sk-ant-api03-0123456789abcdef"
    added = await cli("provider", "add", "openai", "--secret-stdin", given=secret)
    assert (added.code, "api.openai.com" in added.out) == (0, True)
    assert "LOOKS LIKE A KEY OF ANTHROPIC" in " ".join(added.err.split())
    assert (await cli("provider", "disable", "openai", "--json")).json["enabled"] is False
    await cli("provider", "add", "house", "http://127.0.0.1:1/v1", "--kind", "vllm")
    tried = await cli("provider", "test", "house")
    assert (tried.code, tried.out.split(":")[0]) == (1, "unreachable")
    words = ("--base-url", "https://a.test/v1", "--model", "openai/gpt=mine")
    own = await cli("byok", "add", "azure", *words, "--fallback", "--json", given=secret)
    assert (own.json["models"], own.json["fallback"]) == ({"openai/gpt": "mine"}, True)
    edited = await cli("byok", "edit", "azure", "--no-fallback", "--name", "work", "--json")
    assert (edited.json["name"], edited.json["fallback"]) == ("work", False)
    listed = await cli("byok", "list")
    assert "…cdef" in listed.out
    assert secret not in added.out + added.err + own.out + listed.out
    assert (await cli("byok", "remove", "azure")).code == 0
    assert (await cli("byok", "test", "azure")).code == 1


async def test_providers_models_and_plugins(cli: Command) -> None:
    added = await cli(
        *("provider", "add", "acme", "https://api.acme.test/v1", "--secret-stdin"),
        given="sk-0123456789abcdef\n",
    )
    assert "…cdef" in added.out
    model = await cli(
        *("models", "add", "acme/large", "--provider", "acme", "--upstream-model", "large"),
        *("--input", "0.15", "--output", "0.6", "--price", "cache_read=0.075"),
        *("--context-max", "1000", "--output-max", "100"),
    )
    assert "input 0.15" in model.out
    assert "acme/large" in (await cli("models", "list")).out
    assert (await cli("models", "remove", "acme/large")).code == 0
    assert (await cli("provider", "remove", "acme")).code == 0


async def test_the_story_of_another_root_key(home: Path, database_url: str, redis_url: str) -> None:
    """Given control planes that know two, all is sealed by the newer one, and the older one goes;
    of one that they do not know yet, nothing depends."""
    wanted = settings.load({"OPSCENTER_HOME": str(home)})
    unlock(wanted)
    new_root(wanted)
    async with answering(home, database_url, redis_url) as cli:
        await cli.stage.post("/api/v1/llm/admin/providers", {"name": "groq", "secret": "gsk_" * 9})
        old = Secrets(wanted.root_key_path.read_bytes().splitlines()[0])
        sealed = old.keys.seal("groq", "https://api.groq.com/openai/v1", "gsk_" * 9)
        query = "UPDATE provider SET secret = $1 WHERE name = 'groq'"
        await cli.stage.state.pool.execute(query, sealed)
        assert "1 secrets are left" in (await cli("secrets", "drop-old", "--yes")).err
        assert "1 secrets were sealed anew; root key 2" in (await cli("secrets", "rotate")).out
        assert "1 former root keys are gone" in (await cli("secrets", "drop-old", "--yes")).out
        assert (await cli("secrets", "new-root", "--json")).json["version"] == 3
        early = await cli("secrets", "drop-old", "--yes")
        assert (early.code, "Restart it" in early.err) == (1, True)


async def test_usage_tail_shows_the_oldest_first(cli: Command) -> None:
    acme = await cli.stage.organisation()
    made = [await book(cli.stage, acme, acme, number) for number in (1, 2)]
    ran = await cli("usage", "tail", "--org", "Acme", "--json")
    assert [json.loads(line)["id"] for line in ran.out.splitlines()] == made


async def test_the_books_agree(cli: Command) -> None:
    """The first grant waits for the drain to reach Redis: the proof here is of Postgres."""
    report = (await cli("ledger", "verify", "--json")).json
    assert {one["name"]: one["ok"] for one in report["checks"]}["V1"] is True


async def test_status_says_what_is_missing(cli: Command) -> None:
    ran = await cli("status")
    assert (ran.code, "missing: snapshot" in ran.out) == (1, True)


async def test_setup_and_migrate_can_be_repeated(cli: Command) -> None:
    assert (await cli("migrate", "--json")).json == {"applied": []}
    assert (await cli("setup", "--json")).json == {"made": False}


async def test_the_doctor_names_what_is_wrong_and_what_helps(cli: Command) -> None:
    ran = await cli("doctor", "--json")
    found = {one["name"]: one for one in ran.json["findings"]}
    assert found["postgres"]["level"] == "ok"
    assert found["schema"]["level"] == "ok"
    assert found["redis"]["level"] == "ok"
    assert all(one["cure"] for one in found.values() if one["level"] != "ok")
    away = {"OPSCENTER_DATABASE_URL": "postgresql://ops@127.0.0.1:1/opscenter"}
    assert (await cli("doctor", **away)).code == 1


@pytest.mark.parametrize("words", ["control", "drain", "proxy", "migrate", "setup"])
async def test_what_is_no_url_is_a_sentence(home: Path, words: str) -> None:
    given = {"OPSCENTER_HOME": str(home), "OPSCENTER_REDIS_URL": "localhost:6379"}
    ran = await Command(given, None)(words)  # type: ignore[arg-type]
    assert (ran.code, "OPSCENTER_REDIS_URL" in ran.err) == (1, True)
    assert "Traceback" not in ran.err


async def test_without_a_control_api_the_cure_is_named(home: Path) -> None:
    lonely = Command({"OPSCENTER_HOME": str(home), "OPSCENTER_CONTROL_PORT": "1"}, None)  # type: ignore[arg-type]
    ran = await lonely("whoami")
    assert (ran.code, "opscenter up" in ran.err) == (1, True)
    ran = await lonely("whoami", OPSCENTER_CONTROL_PROT="1")
    assert (ran.code, "OPSCENTER_CONTROL_PORT" in ran.err) == (1, True)


# Without a control API ----------------------------------------------------------------


def commands() -> dict[str, Any]:
    """Every command by its words."""
    found: dict[str, Any] = {}

    def walk(group: Any, words: str) -> None:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                walk(command, f"{words} {name}")
            else:
                found[f"{words} {name}".strip()] = command

    walk(typer.main.get_command(app), "")
    return found


PROCESSES = {"up", "proxy", "control", "drain"}


@pytest.mark.parametrize("words", sorted(commands()))
def test_every_command_teaches_and_speaks_json(words: str) -> None:
    command = commands()[words]
    assert command.help
    assert f"opscenter {words}" in command.epilog
    if words not in PROCESSES:
        assert any("--json" in option.opts for option in command.params), words


def test_importing_the_command_is_light() -> None:
    """`opscenter --help` must answer at once, so nothing heavy is imported for it."""
    script = "import sys, control.cli; print([m for m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    for heavy in ("asyncpg", "fastapi", "pydantic", "redis", "uvicorn", "cryptography", "asyncio"):
        assert f"'{heavy}'" not in loaded


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        ([], "-"),
        (["a", "b"], "a, b"),
        ({"input": 5}, "input 5"),
        ("2030-01-02T03:04:05.678901Z", "2030-01-02 03:04:05"),
        ("a\x1b[31mb\r\n", "a?[31mb??"),
    ],
)
def test_values_become_cells_that_cannot_steer_a_terminal(value: object, text: str) -> None:
    assert output.text_of(value) == text


def test_an_id_in_a_path_cannot_change_the_path() -> None:
    assert part("a?b#c%2e d") == "a%3Fb%23c%252e%20d"


def test_a_moments_id_lies_below_every_request_of_it() -> None:
    before = moment_id(time.time() - 1)
    assert before < ids.request_id() < moment_id(time.time() + 1)


def test_settings_of_both_planes_are_one(home: Path) -> None:
    wanted = settings.load({"OPSCENTER_HOME": str(home), "OPSCENTER_CONTROL_HOSTS": "A.test, b"})
    assert wanted.hosts == {"a.test", "b"}
    assert wanted.proxy.home == home
