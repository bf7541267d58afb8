"""Whatever a provider sends as usage, what gets into the ledger are counts, and nothing breaks."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.costs import billed
from proxy.costs.price import Price
from proxy.costs.pricing import AMOUNT_MAX_UCR, cost_ucr
from proxy.dialects.events import Counted
from proxy.errors import OpsError, UpstreamBroken
from proxy.providers.catalog import ADAPTERS
from proxy.providers.fields import TOKENS_MAX
from proxy.stream import whole
from proxy.stream.ways import way_of
from proxy.types import Call, Deployment, Outcome, Usage
from proxy.upstream import Reply
from tests.billed_stage import EVENTS, JSON, SETTINGS, Answer, asked, heard, wave

COUNT_MAX = 2 * TOKENS_MAX  # a class may be the sum of two counts
MILLION = 1_000_000
SAID: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 9}
CALLS: dict[str, Call] = {
    "chat": asked("chat", web_search_options={}, **SAID),
    "responses": asked("responses", input="x"),
    "messages": asked("messages", **SAID),
    "completions": asked("completions", prompt="x"),
    "embeddings": asked("embeddings", input="x"),
    "moderations": asked("moderations", input="x"),
    "rerank": asked("rerank", query="q", documents=["a"]),
    "images": asked("images", prompt="x"),
    "speech": asked("speech", input="x", stream_format="sse"),
    "transcription": heard(wave(1), stream="true"),
}
BY_TOKEN = {"input": 1_000 * MILLION, "output": 1_000 * MILLION, "web_searches": MILLION}
BY_UNIT = dict.fromkeys(
    ("requests", "images", "seconds", "characters", "searches"), 10**9 * MILLION
)
PRICES = [Price(1, rates, MILLION) for rates in (BY_TOKEN, BY_UNIT, {**BY_TOKEN, **BY_UNIT})]

COUNTS = (
    *("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens"),
    *("cached_tokens", "reasoning_tokens", "audio_tokens", "image_tokens", "citation_tokens"),
    *("num_search_queries", "prompt_audio_seconds", "seconds", "cache_read_input_tokens"),
    *("cache_creation_input_tokens", "ephemeral_1h_input_tokens", "web_search_requests"),
    *("prompt_eval_count", "eval_count", "search_units", "promptTokenCount", "tokenCount"),
    *("candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount", "totalTokenCount"),
    *("cachedContentTokenCount", "duration"),
)
PLACES = (
    *("usage", "usageMetadata", "response", "message", "meta", "billed_units", "delta", "x_groq"),
    *("prompt_tokens_details", "input_tokens_details", "output_tokens_details", "cache_creation"),
    *("server_tool_use", "promptTokensDetails", "candidatesTokensDetails", "cacheTokensDetails"),
    *("data", "output", "content", "tokens", "item", "content_block", "done", "candidates"),
)
TYPES = (
    *("message_start", "message_delta", "message_stop", "message-end", "content_block_start"),
    *("response.completed", "response.output_item.done", "image_generation.completed"),
    *("speech.audio.done", "transcript.text.done", "error", "web_search_call", "server_tool_use"),
)
numbers: st.SearchStrategy[Any] = st.sampled_from(
    [0, 1, 7, -1, -(10**30), 10**30, 10**9, 10**9 + 1, 1.5, -0.5, 1e300, 1e400, True, False]
) | st.sampled_from([None, "3", "", [], {}, [7], "NaN"])
fields = st.dictionaries(st.sampled_from(COUNTS), numbers, max_size=6)
values = st.recursive(
    fields | st.lists(fields, max_size=2),
    lambda inner: st.dictionaries(st.sampled_from(PLACES), inner, max_size=3),
    max_leaves=6,
)
frames = st.builds(
    lambda kind, counts, places: {"type": kind, **counts, **places},
    st.sampled_from(TYPES),
    fields,
    st.dictionaries(st.sampled_from(PLACES), values, max_size=3),
)

#: As providers tell it, with 7 where a number stands.
OPENAI = {
    **dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), 7),
    **dict.fromkeys(("num_search_queries", "citation_tokens", "prompt_audio_seconds"), 7),
    "prompt_tokens_details": {"cached_tokens": 7, "audio_tokens": 7},
    "completion_tokens_details": {"reasoning_tokens": 7, "audio_tokens": 7},
}
NEWER = {
    **dict.fromkeys(("input_tokens", "output_tokens", "total_tokens", "seconds"), 7),
    "input_tokens_details": {"cached_tokens": 7, "cache_write_tokens": 7, "image_tokens": 7},
    "output_tokens_details": {"reasoning_tokens": 7, "image_tokens": 7},
}
ANTHROPIC = {
    **dict.fromkeys(("input_tokens", "output_tokens", "cache_read_input_tokens"), 7),
    "cache_creation_input_tokens": 7,
    "cache_creation": {"ephemeral_5m_input_tokens": 7, "ephemeral_1h_input_tokens": 7},
    "output_tokens_details": {"thinking_tokens": 7},
    "server_tool_use": {"web_search_requests": 7, "code_execution_requests": 7},
}
MODALITY = [{"modality": "AUDIO", "tokenCount": 7}, {"modality": "VIDEO", "tokenCount": 7}]
GEMINI = {
    **dict.fromkeys(("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount"), 7),
    **dict.fromkeys(("totalTokenCount", "cachedContentTokenCount", "toolUsePromptTokenCount"), 7),
    **dict.fromkeys(("promptTokensDetails", "candidatesTokensDetails"), MODALITY),
    "cacheTokensDetails": MODALITY,
}
BILLED = {"input_tokens": 7, "output_tokens": 7, "search_units": 7}
TEMPLATES: list[dict[str, Any]] = [
    {"usage": OPENAI, "choices": [{"message": {}, "finish_reason": "stop"}]},
    {"x_groq": {"usage": OPENAI}},
    {"usage": NEWER, "data": [{}], "duration": 7, "type": "image_generation.completed"},
    {"usage": NEWER, "type": "transcript.text.done"},
    {"usage": NEWER, "type": "speech.audio.done"},
    {"response": {"usage": NEWER, "output": [{"type": "web_search_call"}]},
     "type": "response.completed"},
    {"usage": ANTHROPIC, "content": [], "type": "message_delta"},
    {"message": {"usage": ANTHROPIC}, "type": "message_start"},
    {"usageMetadata": GEMINI, "candidates": [{"finishReason": "STOP"}]},
    {"usage": {"billed_units": BILLED, "cached_tokens": 7}, "message": {"content": []}},
    {"delta": {"usage": {"tokens": BILLED, "cached_tokens": 7}}, "type": "message-end"},
    {"meta": {"billed_units": BILLED}, "results": []},
    {"prompt_eval_count": 7, "eval_count": 7, "message": {"content": "x"}, "done": True},
]  # fmt: skip


def spoiled(value: Any) -> st.SearchStrategy[Any]:
    """The same with other numbers in it."""
    if isinstance(value, dict):
        return st.fixed_dictionaries({name: spoiled(inner) for name, inner in value.items()})
    if isinstance(value, list):
        return st.tuples(*map(spoiled, value)).map(list)
    return numbers if value == 7 else st.just(value)


shaped = st.one_of([spoiled(template) for template in TEMPLATES])


def check(usage: Usage, where: str) -> None:
    for name, number in usage.tokens.items():
        assert type(number) is int, f"{where}: {name} is {number!r}"
        assert 0 <= number <= COUNT_MAX, f"{where}: {name} is {number}"
    for price in PRICES:
        assert 0 <= cost_ucr(usage.tokens, price) <= AMOUNT_MAX_UCR


def of_speech(name: str, sent: list[bytes]) -> Iterator[Usage]:
    speech = ADAPTERS[name].speech
    if speech is None:
        return
    reader = speech.reader()
    for data in sent:
        found = list(reader.feed(data))
        try:
            found += speech.whole(data)
        except ValueError:  # no answer
            continue
        yield from (event.usage for event in found if isinstance(event, Counted))


def of_calls(name: str, sent: list[bytes]) -> Iterator[tuple[str, Usage]]:
    place = Deployment(1, "m", "p", name, "http://127.0.0.1:1", "m")
    for dialect in ADAPTERS[name].native & CALLS.keys():
        call = CALLS[dialect]
        plain, events = (
            Reply(Answer(kind), ADAPTERS[name], place, SETTINGS, 0) for kind in (JSON, EVENTS)
        )
        for price in PRICES:
            for data in sent:
                try:
                    yield f"{dialect}, whole", billed.usage(plain, call, price, data)
                except OpsError:  # an error, or no answer
                    continue
            way = way_of(events, call, Outcome(), price)
            for data in sent:
                way.take(b"data: " + data + b"\n\n")
            yield f"{dialect}, streamed", way.used()


@settings(max_examples=60)
@given(sent=st.lists(shaped | frames, min_size=1, max_size=3))
@pytest.mark.parametrize("name", ADAPTERS)
def test_no_number_reaches_the_ledger_unchecked(name: str, sent: list[dict[str, Any]]) -> None:
    """Negative, broken, endless, a word, a list: none is a count, and none stops a settlement."""
    texts = [json.dumps(frame).encode() for frame in sent]
    for text in texts:
        found = ADAPTERS[name].usage(text)
        if found is not None:
            check(found, f"{name}, one event")
    for usage in of_speech(name, texts):
        check(usage, f"{name}, translated")
    for where, usage in of_calls(name, texts):
        check(usage, f"{name}, {where}")


@pytest.mark.parametrize(
    ("name", "answer", "end"),
    [
        ("gemini", {"candidates": [{"content": {"parts": [{"functionCall": {"args": 7}}]}}]}, b""),
        ("ollama", {"message": {"tool_calls": [{"function": {"arguments": 7}}]}}, b"\n"),
        ("anthropic", {"content": [{"type": "tool_use", "input": 7}]}, b""),
    ],
)
def test_what_nests_too_deep_to_be_said_is_a_broken_answer(
    name: str, answer: dict[str, Any], end: bytes
) -> None:
    """And not a failure of ours, which would lose what had been used until then."""
    deep = b'{"a":' * 400 + b"1" + b"}" * 400
    body = json.dumps(answer).encode().replace(b"7", deep)
    place = Deployment(1, "m", "p", name, "http://127.0.0.1:1", "m")
    kind = b"application/x-ndjson" if end else EVENTS
    call, found = CALLS["chat"], Reply(Answer(kind), ADAPTERS[name], place, SETTINGS, 0, False)
    with pytest.raises(UpstreamBroken):
        whole.read(found, call, body)
    if name == "anthropic":  # there the arguments come as a text
        return
    way = way_of(found, call, Outcome(), PRICES[0])
    with pytest.raises(UpstreamBroken):
        way.take(body + end if end else b"data: " + body + b"\n\n")
    check(way.used(), name)


def test_a_usage_as_deep_as_json_goes_is_read() -> None:
    deep = b'{"usage":{"prompt_tokens":7,"a":' + b'{"a":' * 900 + b"1" + b"}" * 902
    found = ADAPTERS["openai"].usage(deep)
    assert found is not None
    assert found.tokens == {"input": 7}
