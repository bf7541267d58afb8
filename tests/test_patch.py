"""Bodies are sent on as they came wherever that is safe: nobody reads them as we did not."""

import json
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.providers.patch import patched

PLAIN = (
    b'{ "model" : "gpt", "messages": [{"role":"user","content":"a \\"model\\" \xe4\xbd\xa0"}]'
    b', "seed": 1.50}'
)


def first_wins(body: bytes) -> Any:
    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return dict(reversed(pairs))

    return json.loads(body, object_pairs_hook=keep)


def test_what_needs_no_change_is_sent_untouched() -> None:
    assert patched(PLAIN, orjson.loads(PLAIN), {"model": "gpt"}) is PLAIN


def test_only_the_models_name_changes() -> None:
    changed = patched(PLAIN, orjson.loads(PLAIN), {"model": 'a"\\1b'})
    assert changed == PLAIN.replace(b'"gpt"', b'"a\\"\\\\1b"')


def test_new_fields_stand_before_the_others() -> None:
    changes = {"model": "gpt", "stream_options": {"include_usage": True}, "max_tokens": 7}
    changed = patched(PLAIN, orjson.loads(PLAIN), changes)
    assert changed.startswith(b'{"stream_options":{"include_usage":true},"max_tokens":7, "model"')
    assert changed.endswith(PLAIN[1:])
    assert orjson.loads(changed) == {**orjson.loads(PLAIN), **changes}


def test_numbers_keep_digits_that_no_double_has() -> None:
    body = b'{"model":"m","messages":[],"seed":123456789012345678901234567890}'
    assert patched(body, orjson.loads(body), {"model": "n"}) == body.replace(b'"m"', b'"n"')


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b","messages":[]}',
        b'{"model":"b","messages":[],"mod\\u0065l":"a"}',
        b'{"model":"b","n":128,"n":1,"messages":[]}',
        b'{"model":"b","messages":[],"max_tokens":9,"max_tokens":1}',
        b'{"model":"b","messages":[{"content":[{"type":"image_url"}],"content":"x"}]}',
        b'{"model":"b","messages":[{"content":[{"type":"image_url","type":"text"}]}]}',
        b'{"model":"b","messages":[{"a":1}],"messages":[]}',
        b'{"model":"b\\n","messages":[]}',
    ],
)
def test_what_could_be_read_in_two_ways_is_written_anew(body: bytes) -> None:
    sent = patched(body, orjson.loads(body), {"model": "c"})
    assert first_wins(sent) == orjson.loads(sent) == {**orjson.loads(body), "model": "c"}


names = st.sampled_from(["model", "n", "max_tokens", "messages", "content", "type", "x"])
scalars = st.sampled_from([1, "model", "text", "image_url", "n", None, 'q"', "ü"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.lists(st.tuples(names, inner), max_size=3),
    max_leaves=6,
)


def written(value: Any) -> str:
    """JSON in which names may stand twice; a list of pairs is an object."""
    if isinstance(value, list) and value and all(isinstance(one, tuple) for one in value):
        pairs = (f"{json.dumps(name)}:{written(inner)}" for name, inner in value)
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


messages = st.lists(
    st.lists(st.tuples(st.sampled_from(["content", "role"]), values), min_size=1, max_size=3),
    max_size=2,
)


@given(
    st.lists(st.tuples(names, values), max_size=4),
    messages,
    st.sampled_from(["m", "other"]),
    st.booleans(),
)
def test_admission_and_provider_read_the_same(
    more: list[tuple[str, Any]], said: Any, upstream: str, stream: bool
) -> None:
    pairs = [*more, ("model", "m"), ("messages", said)]
    body = written(pairs).encode()
    read = orjson.loads(body)
    if not all(isinstance(message, dict) for message in read["messages"]):
        return
    changes: dict[str, Any] = {"model": upstream}
    if stream:
        changes["stream_options"] = {"include_usage": True}
    sent = patched(body, read, changes)
    assert orjson.loads(sent) == {**read, **changes}
    assert what_holds_depend_on(first_wins(sent)) == what_holds_depend_on({**read, **changes})


def what_holds_depend_on(fields: Mapping[str, Any]) -> Any:
    names = ("model", "n", "max_tokens", "stream_options")
    contents = [
        [part.get("type") if isinstance(part, dict) else None for part in content]
        if isinstance(content := message.get("content"), list)
        else content
        if isinstance(content, str)
        else None
        for message in fields["messages"]
    ]
    return [fields.get(name) for name in names], contents
