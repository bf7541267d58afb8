"""Request: bytes in, a Call out. Whatever comes, the worst is an error that says what to mend."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from proxy import request
from proxy.errors import (
    BodyEmpty,
    BodyInvalid,
    BodyNotObject,
    BodyTooDeep,
    BodyTooManyItems,
    FieldInvalid,
    FieldMissing,
    HeaderInvalid,
    OpsError,
)
from proxy.served import CHAT
from proxy.settings import Settings
from proxy.types import Call

calm = hypothesis_settings(deadline=None, derandomize=True, database=None)

MESSAGES = [{"role": "user", "content": "hello"}]
LEAST = {"model": "m", "messages": MESSAGES}
SMALL = Settings(json_depth_max=6, json_items_max=100)


def chat(body: bytes, settings: Settings = SMALL) -> Call:
    return request.read(CHAT, "rid", CHAT.paths[0], body, settings)


def call(**fields: Any) -> Call:
    return chat(orjson.dumps({**LEAST, **fields}))


def refusal(body: bytes, settings: Settings = SMALL) -> OpsError:
    with pytest.raises(OpsError) as caught:
        chat(body, settings)
    return caught.value


def test_the_least_request_is_a_call_with_its_bytes_untouched() -> None:
    body = orjson.dumps(LEAST)
    found = chat(body)
    assert found.body is body
    assert (found.model, found.stream, found.usage_wanted) == ("m", False, False)
    assert (found.output_max, found.end_user) == (None, None)


def test_what_the_door_does_not_know_is_left_to_the_provider() -> None:
    """Every parameter passes through, also those of next year."""
    found = call(temperature="warm", tools=7, future={"a": [None]})
    assert found.fields["future"] == {"a": [None]}


@pytest.mark.parametrize("body", [b"", b" ", b"\n\t \r\n" * 9])
def test_a_body_without_a_word_is_told_as_empty(body: bytes) -> None:
    assert isinstance(refusal(body), BodyEmpty)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"{", "at line 1 column 2"),
        (b'{"model": "m",\n"x"}', "at line 2 column 4"),
        (b"{} {}", "line 1"),
        (b"{'a': 1}", "line 1"),
        (b'{"a": NaN}', "line 1"),
        (b'{"a": Infinity}', "line 1"),
        (b'{"a": -Infinity}', "line 1"),
        (b'{"a": 1e999}', "line 1"),
        (b'{"a": 01}', "line 1"),
        (b'{"a": .5}', "line 1"),
        (b'{"a": 1,}', "line 1"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "UTF-8"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": "\\udc00x"}', "surrogate"),
        (b'{"a": "\n"}', "line 1"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"\0", "line 1"),
        (b"{}\0", "line 1"),
        ("{}".encode("utf-16"), "UTF-8"),
        (b"model=m&messages=x", "line 1"),
        (b"[" * 50 + b"]" * 49, "line 1"),
    ],
)
def test_a_body_that_is_no_json_is_told_with_the_place(body: bytes, where: str) -> None:
    """Strictly the grammar: what one parser takes and another does not is taken by none."""
    problem = refusal(body)
    assert isinstance(problem, BodyInvalid)
    assert where in problem.sentence


@pytest.mark.parametrize("body", [b"[]", b"1", b'"text"', b"null", b"true", b"[{}]"])
def test_a_body_that_is_no_object_is_told(body: bytes) -> None:
    assert isinstance(refusal(body), BodyNotObject)


def test_of_a_name_that_stands_twice_the_last_one_counts() -> None:
    """And the provider is sent what counted, so nobody is charged for another model than he got."""
    body = b'{"model":"dear","messages":[{"role":"user","content":""}],"model":"cheap"}'
    found = chat(body)
    assert found.model == found.fields["model"] == "cheap"


def nested(levels: int) -> bytes:
    """An object whose deepest value lies `levels` brackets deep, by lists and objects in turn."""
    inner = b"1"
    for level in range(levels - 1):
        inner = b"[" + inner + b"]" if level % 2 else b'{"a":' + inner + b"}"
    return b'{"model":"m","messages":[{}],"x":' + inner + b"}"


@pytest.mark.parametrize("limit", [1, 2, 6, 64, 250])
def test_the_deepest_body_allowed_passes_and_one_level_more_does_not(limit: int) -> None:
    """The object itself is the first level."""
    settings = Settings(json_depth_max=limit)
    assert request.read_object(nested(limit).replace(b"[{}]", b"1"), settings)
    with pytest.raises(BodyTooDeep, match=f"deeper than {limit} levels"):
        request.read_object(nested(limit + 1).replace(b"[{}]", b"1"), settings)


@pytest.mark.parametrize("opener", [b"[", b'{"a":'])
def test_depth_beyond_what_the_parser_can_take_is_told_the_same_way(opener: bytes) -> None:
    """Neither the parser nor our own walk runs out of stack."""
    assert isinstance(refusal(opener * 5_000, Settings()), BodyTooDeep)
    closed = b'{"a":' + b"[" * 2_000 + b"]" * 2_000 + b"}"
    assert isinstance(refusal(closed, Settings()), BodyTooDeep)


def test_brackets_inside_of_texts_have_no_depth() -> None:
    assert call(x="[" * 50).fields["x"] == "[" * 50


@pytest.mark.parametrize(
    "fill",
    [
        lambda n: b"[" + b",".join([b"1"] * n) + b"]",
        lambda n: b"[" + b",".join([b"{}"] * (n // 2)) + b"]",
        lambda n: b"{" + b",".join(b'"%d":1' % i for i in range(n)) + b"}",
        lambda n: b"[" + b",".join([b'"a,b"'] * n) + b"]",
    ],
    ids=["numbers", "objects", "fields", "texts"],
)
def test_a_body_of_very_many_values_is_refused_before_it_is_parsed(fill: Any) -> None:
    """Small values cost the most memory: each of their bytes becomes fifty."""
    assert chat(b'{"model":"m","messages":[{}],"x":' + fill(90) + b"}").model == "m"
    problem = refusal(b'{"model":"m","messages":[{}],"x":' + fill(110) + b"}")
    assert isinstance(problem, BodyTooManyItems)
    assert "100 values" in problem.sentence


def test_commas_and_brackets_inside_of_texts_are_no_values() -> None:
    """A long table in a prompt is one text."""
    for text in ("1,2,3\n" * 200, '{"a":[1,2]},' * 100, '\\",' * 200, "\\\\,[" * 200):
        messages = [{"role": "user", "content": text}]
        assert call(messages=messages).fields["messages"] == messages


def test_a_body_of_nothing_but_quotes_is_refused_cheaply() -> None:
    assert isinstance(refusal(b'{"' * 300), BodyTooManyItems)


@pytest.mark.parametrize("name", ["model", "messages"])
@pytest.mark.parametrize("missing", [True, False], ids=["missing", "null"])
def test_a_field_that_must_be_there_is_named(name: str, missing: bool) -> None:
    fields: dict[str, Any] = {**LEAST, name: None}
    if missing:
        del fields[name]
    problem = refusal(orjson.dumps(fields))
    assert isinstance(problem, FieldMissing)
    assert problem.param == name


JUNK: tuple[Any, ...] = (True, False, 0, 1.5, "text", [], [1], {}, {"a": 1})
WRONG: dict[str, list[Any]] = {
    "model": [v for v in JUNK if v != "text"] + ["", "x" * 257],
    "messages": [v for v in JUNK if v != [1]],
    "stream": [v for v in JUNK if not isinstance(v, bool)] + [1, ""],
    "n": [v for v in JUNK if v != 0] + [0, -1, 129, 2**63, 2**64, 2.0, "1"],
    "max_tokens": [v for v in JUNK if v != 0] + [0, -1, 10_000_001, 2**64, 100.0, "100"],
    "max_completion_tokens": [v for v in JUNK if v != 0] + [0, -1, 10_000_001, 1e300],
    "user": [v for v in JUNK if v != "text"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_field_of_the_wrong_kind_is_named(name: str, value: Any) -> None:
    """A boolean is no whole number, and neither is 1.0 or a number in quotes."""
    fields = {**LEAST, name: value}
    body = str(fields).replace("'", '"').replace("True", "true").replace("False", "false")
    problem = refusal(body.encode())
    assert isinstance(problem, FieldInvalid)
    assert problem.param == name
    assert f"`{name}`" in problem.sentence


@pytest.mark.parametrize("value", [True, 0, 1.5, "text", [], [1]])
def test_stream_options_of_a_stream_are_an_object(value: Any) -> None:
    with pytest.raises(FieldInvalid) as caught:
        call(stream=True, stream_options=value)
    assert caught.value.param == "stream_options"


@pytest.mark.parametrize(
    ("fields", "output_max"),
    [
        ({}, None),
        ({"max_tokens": None, "max_completion_tokens": None, "n": None}, None),
        ({"n": 3}, None),
        ({"max_tokens": 1}, 1),
        ({"max_tokens": 10_000_000}, 10_000_000),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 7, "max_completion_tokens": 9}, 9),
        ({"max_tokens": 9, "max_completion_tokens": 7}, 9),
        ({"max_tokens": 9, "n": 128}, 1152),
    ],
)
def test_the_output_asked_for_is_that_of_all_choices(
    fields: dict[str, Any], output_max: int | None
) -> None:
    """Of two maxima the larger counts: a provider may know but one of them."""
    assert call(**fields).output_max == output_max


@pytest.mark.parametrize(
    ("fields", "stream", "wanted"),
    [
        ({"stream": None}, False, False),
        ({"stream": False, "stream_options": {"include_usage": True}}, False, False),
        ({"stream": True}, True, False),
        ({"stream": True, "stream_options": None}, True, False),
        ({"stream": True, "stream_options": {}}, True, False),
        ({"stream": True, "stream_options": {"include_usage": False}}, True, False),
        ({"stream": True, "stream_options": {"include_usage": 1}}, True, False),
        ({"stream": True, "stream_options": {"include_usage": True}}, True, True),
    ],
)
def test_usage_is_shown_only_to_who_asked_for_it(
    fields: dict[str, Any], stream: bool, wanted: bool
) -> None:
    found = call(**fields)
    assert (found.stream, found.usage_wanted) == (stream, wanted)


@pytest.mark.parametrize(
    ("user", "kept"),
    [
        (None, None),
        ("", None),
        ("alice", "alice"),
        ("ü" * 300, "ü" * 256),
        ("a\0b", "ab"),
        ("\0" * 300, None),
        ("\0" * 300 + "a", "a"),
    ],
)
def test_the_end_user_is_kept_as_the_ledger_can_book_him(user: str, kept: str | None) -> None:
    """A text of the database cannot hold NUL: with it the charge could never be booked."""
    assert call(user=user).end_user == kept


def test_no_name_in_a_body_is_a_destination() -> None:
    """Such fields are data for the provider, never an address of ours."""
    found = call(api_base="http://evil", base_url="http://evil", custom_host="evil")
    assert found.model == "m"
    assert found.path == "/v1/chat/completions"


def told(problem: OpsError) -> None:
    """The caller's fault, in words."""
    assert 400 <= problem.status < 500
    assert problem.sentence


@calm
@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_an_error_of_ours(body: bytes) -> None:
    try:
        chat(body)
    except OpsError as problem:
        told(problem)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KNOWN = ("model", "messages", "stream", "stream_options", "n", "max_tokens", "user")


@calm
@given(st.dictionaries(st.sampled_from(KNOWN), anything))
def test_no_object_raises_anything_but_an_error_of_ours(fields: dict[str, Any]) -> None:
    try:
        found = chat(orjson.dumps(fields), Settings())
    except OpsError as problem:
        return told(problem)
    assert found.model
    assert found.output_max is None or found.output_max > 0
    assert found.choices >= 1


@calm
@given(st.binary(max_size=40), st.integers(0, 200), st.integers(0, 200))
def test_a_good_body_with_any_damage_is_an_error_or_a_call(
    junk: bytes, start: int, length: int
) -> None:
    good = orjson.dumps({**LEAST, "stream": True, "stream_options": {"include_usage": True}})
    try:
        chat(good[:start] + junk + good[start + length :])
    except OpsError as problem:
        told(problem)


@pytest.mark.parametrize(("length", "passes"), [(2_000, True), (2_001, False)])
def test_features_on_trial_are_named_at_some_length(length: int, passes: bool) -> None:
    headers = {b"anthropic-beta": b"a" * length}
    if passes:
        assert request.betas_of(headers) == "a" * length
    else:
        with pytest.raises(HeaderInvalid):
            request.betas_of(headers)


@pytest.mark.parametrize(
    "name", ["Model", "MAX_TOKENS", "N", "\u017ftream", "Max_Completion_tokens"]
)
def test_a_name_that_some_provider_reads_as_another_is_refused(name: str) -> None:
    """Readers that look at no case would take a second model, or a larger maximum, from it."""
    problem = refusal(orjson.dumps({**LEAST, "max_tokens": 5, name: 7}))
    assert isinstance(problem, FieldInvalid)
    assert problem.param == name.casefold()
    assert call(Future=1, KEY=2).fields["Future"] == 1
