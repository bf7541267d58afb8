"""Which vocabularies there are, for which models, and how their files are known."""

import hashlib
from pathlib import Path

import orjson
import pytest
import tiktoken.model
from tiktoken_ext import openai_public
from typer.testing import CliRunner

from control import fetch
from control.cli import app
from control.fetch import FetchError
from proxy.costs.vocabularies import ENCODINGS, Encoding, at_hand, encoding_of
from tests.vocabulary_stage import DATA, fill, small


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda one: one.name)
def test_the_table_is_tiktokens_own(encoding: Encoding, monkeypatch: pytest.MonkeyPatch) -> None:
    """Address, hash and pattern; nothing is downloaded to see it."""
    asked: list[tuple[str, str]] = []

    def load(url: str, expected_hash: str) -> dict[bytes, int]:
        asked.append((url, expected_hash))
        return {}

    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", load)
    made = openai_public.ENCODING_CONSTRUCTORS[encoding.name]()
    assert asked == [(encoding.url, encoding.sha256)]
    assert made["pat_str"] == encoding.pattern
    assert encoding.cached_as == hashlib.sha1(encoding.url.encode()).hexdigest()


def test_models_count_by_what_tiktoken_counts_them_by() -> None:
    """Every model that it knows of these encodings; those of older ones are nobody's."""
    known = {one.name for one in ENCODINGS}
    for model, name in tiktoken.model.MODEL_TO_ENCODING.items():
        assert encoding_of(model) == (name if name in known else None), model
    for prefix, name in tiktoken.model.MODEL_PREFIX_TO_ENCODING.items():
        model = prefix + (
            "-2026" if prefix.startswith("ft:") else "2026" if prefix[-1] == "-" else ""
        )
        assert encoding_of(model) == name.replace("harmony", "base"), model


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("openai/gpt-4o-mini", "o200k_base"),
        ("openrouter/openai/GPT-5.1:free", "o200k_base"),
        ("azure/gpt-35-turbo-16k", "cl100k_base"),
        ("ft:gpt-4o-mini:acme::1", "o200k_base"),
        ("o1x", None),
        ("gpt-4x", None),
        ("gpt-40", None),
        ("meta/llama-4", None),
        ("", None),
    ],
)
def test_a_name_tells_the_family(model: str, name: str | None) -> None:
    assert encoding_of(model) == name


def test_files_are_found_by_either_name(tmp_path: Path) -> None:
    """As tiktoken caches them, and as they are called where they are published."""
    first, second = ENCODINGS
    assert at_hand(tmp_path / "none") == {}
    fill(tmp_path, first)
    (tmp_path / "cl100k_base.tiktoken").write_bytes(DATA)
    found = at_hand(tmp_path)
    assert {name: path.name for name, path in found.items()} == {
        first.name: first.cached_as,
        second.name: "cl100k_base.tiktoken",
    }
    assert first.problem_of(DATA) is not None
    assert first._replace(sha256=hashlib.sha256(DATA).hexdigest()).problem_of(DATA) is None


# The command ------------------------------------------------------------------------------


def run(home: Path, *words: str) -> tuple[int, str]:
    """Exit code, and what was said."""
    ran = CliRunner().invoke(app, ["vocabularies", *words], env={"OPSCENTER_HOME": str(home)})
    return ran.exit_code, str(ran.exception) if ran.exit_code else ran.output


def test_the_command_tells_what_is_at_hand_and_takes_what_is_missing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is whole; a folder that tiktoken has filled is taken as it is."""
    encodings = small(monkeypatch)
    code, said = run(home, "--json")
    rows = orjson.loads(said)["data"]
    assert code == 0
    assert [row["state"] for row in rows] == ["missing", "missing"]
    assert "gpt-4o" in rows[0]["models"]
    source = fill(tmp_path / "cache", encodings["o200k_base"])
    code, said = run(home, "--take", str(source))
    assert code == 1
    assert encodings["cl100k_base"].cached_as in said
    fill(source, encodings["cl100k_base"], data=b"cut")
    assert "SHA-256" in run(home, "--take", str(source))[1]
    fill(source, encodings["cl100k_base"])
    new = tmp_path / "new"
    code, said = run(new, "--take", str(source))
    assert (code, said.count("at hand")) == (0, 2)
    assert set(at_hand(new / "vocabularies")) == set(encodings)
    assert new.stat().st_mode & 0o777 == 0o700, "secrets will lie there"


def test_what_is_missing_is_fetched_when_it_is_wished(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its publisher and nowhere else; where that is out of reach the way round it is told."""
    encodings, asked = small(monkeypatch), list[str]()

    async def get(url: str, tls: object, bytes_max: int) -> bytes:
        asked.append(url)
        if len(asked) > 1:
            raise FetchError("its name has no address")
        return DATA

    monkeypatch.setattr(fetch, "fetch", get)
    code, said = run(home, "--fetch")
    assert asked == [one.url for one in encodings.values()]
    assert code == 1
    assert "--take FOLDER" in said
    assert list(at_hand(home / "vocabularies")) == ["o200k_base"]
