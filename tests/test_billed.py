"""What answers that pass untouched are billed by: what the provider tells, or what we count
ourselves, which is never more than what is held.
"""

from typing import Any

import pytest

from proxy import forms
from proxy.costs import billed
from proxy.costs.hold import hold_of, output_max
from proxy.costs.pricing import cost_ucr
from proxy.costs.units import units_max
from proxy.errors import FieldInvalid, FieldMissing
from proxy.request import read
from proxy.served import SERVED
from proxy.stream.ways import way_of
from proxy.types import Model, Outcome
from tests.billed_stage import (
    FORM,
    SEARCH,
    SETTINGS,
    SOUND,
    TEXT,
    TOKENS,
    USAGE,
    asked,
    heard,
    priced,
    reply,
    stream,
    used,
    wave,
    whole,
)

# Tools that the provider runs -----------------------------------------------------------

OUTPUT = [
    SEARCH,
    {"type": "message", "content": []},
    SEARCH,
    {**SEARCH, "action": {"type": "open_page"}},
    {**SEARCH, "status": "failed"},
    {"type": "file_search_call"},
    {"type": "code_interpreter_call"},
    {"type": "image_generation_call", "result": "…"},
    {"type": "function_call"},
]
RAN = {"web_searches": 2, "file_searches": 1, "code_runs": 1, "images": 1}


def test_tools_are_charged_as_often_as_they_ran() -> None:
    """They are items of what comes out, whole or streamed, and in no count of tokens."""
    call, price = asked("responses", input="x", tools=[{"type": "web_search"}]), priced(input=1)
    answer = {"output": OUTPUT, "usage": USAGE}
    assert used(whole(call, price, answer)) == ({**TOKENS, **RAN}, "provider")
    for end in ("completed", "incomplete"):
        way = stream(call, price, {"type": f"response.{end}", "response": answer})
        assert used(way.used()) == ({**TOKENS, **RAN}, "provider")


def test_tools_that_ran_are_charged_also_where_no_usage_came() -> None:
    call, price = asked("responses", input="x", most=(10, 20)), priced(input=1)
    answer = {"output": OUTPUT, "text": "x" * 1_000}
    assert used(whole(call, price, answer)) == ({**RAN, "input": 7, "output": 20}, "estimated")
    done = [{"type": "response.output_item.done", "item": item} for item in OUTPUT]
    assert used(stream(call, price, *done).used()) == (
        {**RAN, "input": 7, "output": 0},
        "estimated",
    )


def test_a_chat_that_searches_has_searched_once() -> None:
    """Models that search count it nowhere, but those that do are believed."""
    said: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}]}
    call, price = asked("chat", web_search_options={}, **said), priced(input=1, output=1)
    usage = {"prompt_tokens": 7, "completion_tokens": 8}
    once = {**TOKENS, "web_searches": 1}
    assert used(whole(call, price, {"usage": usage})) == (once, "provider")
    assert used(stream(call, price, {"choices": [], "usage": usage}).used()) == (once, "provider")
    assert whole(call, price, {"choices": []}).tokens["web_searches"] == 1
    more = {**usage, "num_search_queries": 3}
    assert whole(call, price, {"usage": more}).tokens["web_searches"] == 3
    assert whole(asked("chat", **said), price, {"usage": usage}).tokens == TOKENS


def test_anthropics_tools_are_charged_as_it_counts_them() -> None:
    call = asked("messages", max_tokens=9, messages=[{"role": "user", "content": "x"}])
    price = priced(input=1, output=1)
    tools = {"web_search_requests": 2, "code_execution_requests": 1, "web_fetch_requests": 5}
    usage = {"input_tokens": 7, "output_tokens": 8, "server_tool_use": tools}
    ran = {**TOKENS, "web_searches": 2, "code_runs": 1}
    assert used(whole(call, price, {"usage": usage})) == (ran, "provider")
    began = {"type": "message_start", "message": {"usage": {"input_tokens": 7}}}
    block = {"type": "server_tool_use", "name": "web_search"}
    search = {"type": "content_block_start", "content_block": block}
    assert used(stream(call, price, began, search).used()) == (
        {"input": 7, "web_searches": 1, "output": 0},
        "estimated",
    )
    told = stream(call, price, began, search, {"type": "message_delta", "usage": usage})
    assert used(told.used()) == (ran, "provider")


# Images ---------------------------------------------------------------------------------

PARTIAL = {"type": "image_generation.partial_image", "b64_json": "A" * 9_000}
IMAGE = {"type": "image_generation.completed", "b64_json": "A" * 9_000}
BROKEN = {"type": "error", "error": {"message": "no"}}


@pytest.mark.parametrize(
    ("frames", "images", "source"),
    [
        ([PARTIAL, IMAGE], 1, "provider"),
        ([PARTIAL, IMAGE, IMAGE, BROKEN], 2, "provider"),
        ([IMAGE, IMAGE, IMAGE], 2, "provider"),  # more than were asked for
        ([PARTIAL], 2, "estimated"),  # it can be seen, so it is made
        ([BROKEN], 0, "provider"),
    ],
)
def test_streamed_images_are_charged_by_the_image(
    frames: list[dict[str, Any]], images: int, source: str
) -> None:
    call = asked("images", prompt="x", n=2, stream=True, quality="hd")
    way = stream(call, priced(images=4), *frames)
    assert used(way.used()) == ({"images/hd": images}, source)
    assert way.count.content_bytes == 0  # which would be held as text
    assert bool(way.events) is (frames != [BROKEN])  # for an error alone nothing is charged


def test_images_sold_by_tokens_cost_what_is_told_or_else_what_is_held() -> None:
    call, price = asked("images", prompt="x", stream=True), priced(input=1, image_out=1)
    assert used(stream(call, price, {**IMAGE, "usage": USAGE}).used()) == (TOKENS, "provider")
    body = -(-len(call.body) // 4)
    unseen = ({"input": body, "image_out": 500}, "estimated")
    assert used(stream(call, price, PARTIAL).used()) == unseen
    assert used(whole(call, price, {"data": [{}]})) == unseen
    assert used(whole(call, price, {"data": []})) == ({"input": body, "output": 0}, "estimated")
    assert used(stream(call, price, BROKEN).used()) == ({"input": body, "output": 0}, "estimated")


# Sound ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sound", "seconds"),
    [
        (wave(60), 60),
        (wave(60, told=1 << 31), 60),  # its two words differ: the slower one
        (wave(60, rate=1 << 31, told=4_000), 120),
        (wave(60, rate=1 << 31, told=1 << 31), 240),  # none is that fast: as slow as sound can be
        (wave(60, told=0), 240),
        (wave(60, block=0), 240),
        (b"\xff" * 480_000, 240),
        (b"RIFF" + b"\xff" * 479_996, 240),
        (b"OggS" + b"\1" * 119_996, 60),
        (b"", 0),
    ],
)
def test_a_sound_is_as_long_as_it_can_be(sound: bytes, seconds: int) -> None:
    call, price = heard(sound, response_format="text"), priced(seconds=1)
    found = billed.usage(reply(call, TEXT), call, price, b"one two")
    assert used(found) == ({"seconds": seconds}, "estimated")


def test_no_head_makes_a_sound_longer_than_what_is_held() -> None:
    call = heard(wave(60, rate=1, told=1))
    found = billed.usage(reply(call, TEXT), call, priced(seconds=1), b"one two")
    assert found.tokens["seconds"] == -(-len(call.body) // 750)


@pytest.mark.parametrize(
    ("end", "tokens", "source"),
    [
        ({"usage": {"type": "duration", "seconds": 6.2}}, {"seconds": 7}, "provider"),
        ({"usage": {"type": "tokens", **USAGE}}, {"seconds": 3}, "estimated"),
        ({}, {"seconds": 3}, "estimated"),
    ],
)
def test_a_streamed_transcription_is_charged_by_the_second(
    end: dict[str, Any], tokens: dict[str, int], source: str
) -> None:
    call = heard(wave(3), stream="true")
    said = {"type": "transcript.text.delta", "delta": "one two"}
    way = stream(call, priced(seconds=1), said, {"type": "transcript.text.done", **end})
    assert used(way.used()) == (tokens, source)


@pytest.mark.parametrize(
    ("part", "param"),
    [
        (forms.Part("file", b"x"), "file"),
        (forms.Part("prompt", b"x", b"a.wav"), "prompt"),
        (forms.Part("url", b"http://example.com/a.wav"), "url"),
        (forms.Part("file_id", b"1"), "file_id"),
        (forms.Part("File_Url", b"1"), "file_url"),
    ],
)
def test_a_sound_comes_as_the_one_file(part: forms.Part, param: str) -> None:
    """What cannot be measured here is not sent."""
    parts = [forms.Part("model", b"m"), part]
    if part.name != "file":
        parts.append(forms.Part("file", b"x", b"a.wav"))
    served = next(one for one in SERVED if one.dialect == "transcription")
    with pytest.raises(FieldInvalid) as refused:
        read(served, "r", "/", forms.write(parts, b"x"), SETTINGS, {b"content-type": FORM})
    assert refused.value.param == param


def test_speech_is_charged_by_its_text_by_what_is_told_or_by_what_is_held() -> None:
    call = asked("speech", input="Zürich", voice="v", stream_format="sse")
    frames = ({"type": "speech.audio.delta", "audio": "A" * 9_000},
              {"type": "speech.audio.done", "usage": USAGE})  # fmt: skip
    by_text, by_token = priced(characters=1), priced(input=1, audio_out=2)
    assert used(stream(call, by_text, *frames).used()) == ({"characters": 6}, "provider")
    assert used(stream(call, by_token, *frames).used()) == (TOKENS, "provider")
    unseen = ({"input": 2, "audio_out": 500}, "estimated")
    assert used(stream(call, by_token, *frames[:1]).used()) == unseen
    sound = way_of(reply(call, SOUND), call, Outcome(), by_token)
    assert sound.take(b"ID3") == b"ID3"
    assert used(sound.used()) == unseen
    assert (sound.ending(), sound.count.content_bytes) == ("no_usage_frame", 0)


# The rest -------------------------------------------------------------------------------


def test_no_estimate_goes_beyond_what_is_held() -> None:
    said: dict[str, Any] = {"messages": [{"role": "user", "content": "x" * 1_000}]}
    call, price = asked("chat", most=(10, 20), **said), priced(input=1, output=1)
    most = ({"input": 10, "output": 20}, "estimated")
    content = {"choices": [{"delta": {"content": "x" * 1_000}}]}
    assert used(whole(call, price, content)) == most
    assert used(stream(call, price, content).used()) == most
    strange = way_of(reply(call, b"application/octet-stream"), call, Outcome(), price)
    strange.take(b"x" * 1_000)
    assert used(strange.used()) == most


@pytest.mark.parametrize("told", [-5, 1e300, True, "3", None, [1], {"a": 1}])
@pytest.mark.parametrize("kind", ["rerank", "transcription"])
def test_what_is_no_count_is_not_charged_as_one(kind: str, told: Any) -> None:
    if kind == "rerank":
        call, price = asked("rerank", query="q", documents=["a"] * 101), priced(searches=1)
        answer: dict[str, Any] = {"meta": {"billed_units": {"search_units": told}}}
        assert used(whole(call, price, answer)) == ({"searches": 2}, "estimated")
    else:
        call, price = heard(wave(3)), priced(seconds=1)
        answer = {"text": "x", "duration": told, "usage": {"seconds": told}}
        assert used(whole(call, price, answer)) == ({"seconds": 3}, "estimated")


@pytest.mark.parametrize(
    ("dialect", "name"),
    [
        ("chat", "max_output_tokens"),
        ("chat", "best_of"),
        ("chat", "generationConfig"),
        ("completions", "max_completion_tokens"),
        ("responses", "best_of"),
        ("messages", "max_new_tokens"),
    ],
)
def test_a_maximum_goes_by_one_name(dialect: str, name: str) -> None:
    """A provider that knows the other one would obey that, and not what is held."""
    said: dict[str, Any] = {"messages": [{}], "prompt": "x", "input": "x"}
    said |= {} if dialect == "responses" else {"max_tokens": 5}
    asked(dialect, **{**said, name: None})
    with pytest.raises(FieldInvalid):
        asked(dialect, **{**said, name: 9})


@pytest.mark.parametrize("name", ["best_of", "candidate_count", "num_return_sequences"])
def test_one_answer_is_what_is_held_by_any_name(name: str) -> None:
    said: dict[str, Any] = {"messages": [{}], "n": 2}
    assert asked("chat", **{**said, name: 1}).choices == 2
    for value in (True, 1.0, "1", 0, 2):
        with pytest.raises(FieldInvalid):
            asked("chat", **{**said, name: value})


@pytest.mark.parametrize("name", ["batch_size", "num_images", "num_outputs", "sampleCount"])
def test_the_number_of_images_goes_by_one_name(name: str) -> None:
    said: dict[str, Any] = {"prompt": "x", "n": 3}
    asked("images", **{**said, name: 1})
    with pytest.raises(FieldInvalid, match=name):
        asked("images", **{**said, name: 4})


def test_sides_of_an_image_are_its_size() -> None:
    call = asked("images", prompt="x", n=2, width=1_792, height=1_440)
    assert units_max(call, priced(images=1)) == {"images/1792x1440": 2}
    odd = asked("images", prompt="x", width="1792", height=-1)
    assert units_max(odd, priced(images=1)) == {"images": 1}


def test_a_search_is_charged_as_it_was_held() -> None:
    wide = {"search_context_size": "high"}
    call = asked("chat", messages=[{}], web_search_options=wide)
    price = priced(input=1, output=1, web_searches=1)
    found = whole(call, price, {"choices": [], "usage": {"prompt_tokens": 7}})
    assert found.tokens["web_searches/high"] == 1
    assert units_max(call, price) == {"web_searches/high": 1}


@pytest.mark.parametrize(("dialect", "name"), [("chat", "deferred"), ("responses", "background")])
def test_an_answer_that_is_fetched_later_is_refused(dialect: str, name: str) -> None:
    """Nobody would charge for it."""
    said: dict[str, Any] = {"messages": [{}], "input": "x"}
    asked(dialect, **{**said, name: False})
    with pytest.raises(FieldInvalid, match=name):
        asked(dialect, **{**said, name: True})


@pytest.mark.parametrize(
    "fields", [{"input": []}, {"conversation": "conv_1"}, {"prompt": {"id": "pmpt_1"}}]
)
def test_a_provider_may_have_all_that_is_to_be_answered(fields: dict[str, Any]) -> None:
    asked("responses", **fields)
    with pytest.raises(FieldMissing):
        asked("responses", conversation=None)


def test_to_fall_back_to_the_same_model_is_none() -> None:
    """It is not sent on, as the name is ours and could be another model's there."""
    assert "models" not in asked("chat", messages=[{}], models=["m"]).fields
    assert "models" in asked("chat", messages=[{}], models=["m", "n"]).fields


MODEL = Model("m", 1_000, 200, 0, (), None)
LONG = "x" * 9_000
CALLS: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": LONG}], "n": 3, "web_search_options": {}},
    "responses": {"input": LONG, "tools": [{"type": "web_search"}], "max_output_tokens": 9},
    "messages": {"messages": [{"role": "user", "content": LONG}], "max_tokens": 5_000},
    "completions": {"prompt": ["x", "y"], "best_of": 2, "max_tokens": 7},
    "embeddings": {"input": [LONG, LONG]},
    "moderations": {"input": LONG},
    "rerank": {"query": LONG, "documents": ["x"] * 150},
    "images": {"prompt": LONG, "n": 2, "size": "1024x1024"},
    "speech": {"input": LONG},
    "transcription": {},
}
BY_TOKEN = {
    "web_searches": 100_000,
    "input": 3,
    "output": 5,
    "audio_in": 7,
    "audio_out": 11,
    "image_out": 13,
}
UNITS = ("requests", "images", "seconds", "characters", "searches")
DEAR = dict.fromkeys(UNITS, 1_000_000)
TOLD_NOTHING: dict[str, list[dict[str, Any]]] = {
    "whole": [{"text": LONG, "data": [{}] * 9}, {"results": [], "choices": []}],
    "text": [{"choices": [{"delta": {"content": LONG}}]}] * 9,
    "newer": [{"type": "response.output_text.delta", "delta": LONG}] * 9,
    "blocks": [{"type": "content_block_delta", "delta": {"type": "text_delta", "text": LONG}}] * 9,
    "images": [PARTIAL, IMAGE, IMAGE, IMAGE],
    "sound": [{"type": "speech.audio.delta", "audio": LONG}, {"type": "speech.audio.done"}],
    "heard": [{"type": "transcript.text.delta", "delta": LONG}, {"type": "transcript.text.done"}],
}


@pytest.mark.parametrize("rates", [BY_TOKEN, DEAR, BY_TOKEN | DEAR], ids=["token", "unit", "both"])
@pytest.mark.parametrize("dialect", CALLS)
def test_what_nobody_has_told_never_costs_more_than_is_held(
    dialect: str, rates: dict[str, int]
) -> None:
    price, is_sound = priced(**rates), dialect == "transcription"
    call = heard(wave(90, told=1)) if is_sound else asked(dialect, **CALLS[dialect])
    if not price.covers(call.kind):
        return  # it is refused
    hold = hold_of(call, MODEL, price, SETTINGS)
    call.bound(hold.input_tokens, output_max(call, MODEL))
    for name, answers in TOLD_NOTHING.items():
        found = [stream(call, price, *answers).used()]
        found += [whole(call, price, answer) for answer in answers]
        for usage in found:
            assert cost_ucr(usage.tokens, price) <= hold.amount_ucr, f"{name}: {usage}"
    for kind in (SOUND, b"application/octet-stream"):
        way = way_of(reply(call, kind), call, Outcome(), price)
        way.take(b"x" * 9_000)
        assert cost_ucr(way.used().tokens, price) <= hold.amount_ucr, f"{kind!r}: {way.used()}"
