"""Bodies that no SDK would write, before every provider: they are translated, or told what to mend.
There is no third way, for a third one is a 500.
"""

import contextlib
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import request
from proxy.costs.price import Price
from proxy.dialects.clients import CLIENTS, counted
from proxy.errors import CallerError, FieldInvalid
from proxy.served import SERVED, Served
from proxy.settings import Settings
from proxy.translate import body_of, carried
from proxy.types import Deployment, Model, Offer
from tests.matrix_stage import ADAPTERS, FEATURES, IMAGE, REQUESTS

READ = {one.dialect: one for one in SERVED}
PLACES = [
    Deployment(n, "m", name, adapter, "https://api.example.com/v1", "theirs")
    for n, (name, adapter) in enumerate({**ADAPTERS, "all of it": "openai"}.items())
]
PRICE = Price(1, {"input": 1, "output": 1}, 1_000_000)
MODEL = Model("m", 100_000, 5_000, 0, tuple(PLACES), PRICE)
OFFER, SETTINGS = Offer(tuple(PLACES), PRICE), Settings()
Path = tuple[str | int, ...]

#: JSON that stands where something else was asked for.
RAW = (
    *('""', '" "', '"x"', '"auto"', '"none"', '"text"', '"data:;base64,"', '"data:x"', '"\\u0000"'),
    *("null", "true", "false", "0", "-1", "1.5", "1e308", "1" * 30, "-" + "9" * 25, str(2**64 - 1)),
    *("[]", "{}", "[[]]", "[[[[]]]]", "[null]", '[""]', "[0]", "[{}]", '[{"type":""}]'),
    *('{"type":""}', '{"type":null}', '{"type":"x"}', '{"type":[]}', '{"":{}}', '{"role":""}'),
)

#: What the matrix has no use for, in each dialect.
MORE: dict[str, list[dict[str, Any]]] = {
    "chat": [
        {
            "messages": [
                {"role": "developer", "content": "s", "name": "n"},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "t", "cache_control": {"type": "ephemeral"}},
                        {"type": "input_audio", "input_audio": {"data": IMAGE, "format": "wav"}},
                        {
                            "type": "file",
                            "file": {"filename": "f", "file_data": "data:x/y;base64,A"},
                        },
                    ],
                },
                {
                    "role": "assistant",
                    "content": "",
                    "refusal": "no",
                    "reasoning_content": "why",
                    "thinking_blocks": [
                        {"type": "thinking", "thinking": "hm", "signature": "s"},
                        {"type": "redacted_thinking", "data": "d"},
                    ],
                },
                {"role": "user", "content": "u"},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "reasoning_effort": "high",
            "max_completion_tokens": 9,
            "temperature": 1,
            "top_k": 5,
            "seed": 7,
            "stop": "x",
            "n": 1,
            "user": "u",
            "logit_bias": {},
        },
        {"messages": [{"role": "user", "content": "u"}], "tool_choice": "auto"},
    ],
    "messages": [
        {
            "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "document",
                            "title": "t",
                            "source": {"type": "text", "media_type": "text/plain", "data": "d"},
                        },
                        {
                            "type": "document",
                            "context": "c",
                            "citations": {"enabled": False},
                            "source": {"type": "content", "content": "d"},
                        },
                        {
                            "type": "search_result",
                            "title": "t",
                            "source": "s",
                            "content": [{"type": "text", "text": "t", "citations": []}],
                        },
                    ],
                },
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "s"},
                        {"type": "redacted_thinking", "data": "d"},
                        {"type": "text", "text": "t"},
                    ],
                },
                {"role": "user", "content": "u"},
            ],
            "max_tokens": 2048,
            "tools": [{"name": "f", "input_schema": {"type": "object"}, "strict": True}],
            "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
            "thinking": {"type": "adaptive", "display": "summarized"},
            "output_config": {"effort": "high"},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            "metadata": {"user_id": "u"},
            "temperature": 1,
            "top_k": 5,
        },
    ],
    "responses": [
        {
            "instructions": "i",
            "input": [
                {"role": "developer", "content": "s"},
                {
                    "role": "user",
                    "content": [
                        {"type": "input_file", "file_data": "AAAA", "filename": "f"},
                        {"type": "input_audio", "input_audio": {"data": IMAGE, "format": "mp3"}},
                    ],
                },
                {
                    "type": "reasoning",
                    "summary": [{"type": "summary_text", "text": "hm"}],
                    "encrypted_content": "e",
                },
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "refusal", "refusal": "no"}],
                },
                {"role": "user", "content": "u"},
            ],
            "tools": [{"type": "function", "name": "f", "parameters": {}}],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "f"}],
            },
            "text": {"verbosity": "medium", "format": {"type": "text"}},
            "reasoning": {"effort": "low", "summary": "auto"},
            "max_output_tokens": 99,
        },
        {"input": "u", "tool_choice": "auto"},
        {"input": "u", "tool_choice": {"type": "function", "name": "f"}},
    ],
}
USED = ("parallel results", "image", "image by address", "JSON schema", "stop")
BODIES = {
    client: [
        {"model": "m", **body}
        for body in [*(REQUESTS[client](of) for of in FEATURES if of.name in USED), *more]
    ]
    for client, more in MORE.items()
}


def paths(value: Any, here: Path = ()) -> Iterator[Path]:
    """All places in a body."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for name, one in inner:
        yield (*here, name)
        if isinstance(one, dict | list):
            yield from paths(one, (*here, name))


def replaced(body: Any, path: Path, raw: str | None) -> Any:
    """The body with something else at this place, or without it."""
    owner = body
    for step in path[:-1]:
        owner = owner[step]
    if raw is None:
        del owner[path[-1]]
    else:
        owner[path[-1]] = json.loads(raw)
    return body


def outcome(served: Served, body: Any) -> str:
    """What comes of it at all providers at once: `said`, or the error's code."""
    try:
        call = request.read(served, "r", served.paths[0], json.dumps(body).encode(), SETTINGS)
        call, offer = carried(call, MODEL, OFFER)
        for place in offer.deployments:
            body_of(place, call)
    except CallerError as problem:
        return problem.code
    except Exception as problem:
        raise AssertionError(f"{problem!r} by {json.dumps(body)}") from problem
    return "said"


@pytest.mark.parametrize("client", REQUESTS)
def test_every_value_may_be_wrong(client: str) -> None:
    """Each of each body, replaced by each of what it cannot be, and left out."""
    served, codes, tried = READ[client], set[str](), set[str]()
    for body in BODIES[client]:
        codes.add(outcome(served, body))
        for path in paths(body):
            for raw in (*RAW, None):
                wrong = replaced(copy.deepcopy(body), path, raw)
                if (text := json.dumps(wrong)) not in tried:
                    tried.add(text)
                    codes.add(outcome(served, wrong))
    assert {"said", "field_invalid", "field_missing"} <= codes


@st.composite
def wrong_bodies(draw: st.DrawFn, client: str) -> Any:
    """Several things of one body that are wrong at once, also parts of it where others belong."""
    body = copy.deepcopy(draw(st.sampled_from(BODIES[client])))
    for _ in range(draw(st.integers(1, 4))):
        places = list(paths(body))
        if not places:
            break
        path = draw(st.sampled_from(places))
        raw = draw(st.sampled_from([*RAW, None, "another"]))
        if raw == "another":
            found: Any = body
            for step in draw(st.sampled_from(places)):
                found = found[step]
            raw = json.dumps(found)
        replaced(body, path, raw)
    return body


@pytest.mark.parametrize("client", REQUESTS)
@settings(max_examples=120)
@given(data=st.data())
def test_several_may_be_wrong_at_once(client: str, data: st.DataObject) -> None:
    outcome(READ[client], data.draw(wrong_bodies(client)))


def test_a_count_of_tokens_reads_the_same() -> None:
    """Where it is counted here, because its provider cannot."""
    for body in BODIES["messages"]:
        for path in paths(body):
            for raw in (*RAW[:4], "[{}]", '{"type":""}', None):
                wrong = replaced(copy.deepcopy(body), path, raw)
                with contextlib.suppress(CallerError):
                    counted(request.read_object(json.dumps(wrong).encode(), SETTINGS))


@pytest.mark.parametrize(
    ("client", "path"),
    [
        ("chat", ("messages", 0, "role")),
        ("chat", ("tool_choice",)),
        ("messages", ("tool_choice", "type")),
        ("responses", ("tool_choice",)),
        ("responses", ("reasoning", "effort")),
    ],
)
def test_an_empty_word_is_none_of_the_words(client: str, path: Path) -> None:
    """It does not stand for another one: no empty role is one of the system."""
    tried = 0
    for body in BODIES[client]:
        if path in set(paths(body)):
            empty = replaced(copy.deepcopy(body), path, '""')
            call = request.read(READ[client], "r", "/", json.dumps(empty).encode(), SETTINGS)
            with pytest.raises(FieldInvalid, match="it takes"):
                CLIENTS[client].read(call.fields)
            tried += 1
    assert tried
