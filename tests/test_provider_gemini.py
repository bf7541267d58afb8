"""Gemini's dialect: what is said to it, what its answers mean, what they used."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings

from proxy.dialects.conversation import (
    Conversation,
    Media,
    Message,
    Reasoning,
    Refusal,
    Sampling,
    Shape,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from proxy.dialects.events import Failed
from proxy.errors import NotCarried, UpstreamKeyRefused
from proxy.providers.gemini import Gemini
from proxy.providers.gemini_answer import read_usage
from proxy.providers.gemini_speech import GeminiSpeech
from tests.speech_stage import (
    SECRET,
    asked,
    call,
    events,
    place,
    rubbish,
    streamed,
    told,
    written,
)

SPEECH = GeminiSpeech()
ADAPTER = Gemini()
MODEL = "gemini-3-pro-preview"
PLACE = place("https://generativelanguage.googleapis.com", MODEL)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
LOOKUP = Tool("lookup", "Finds the weather", SCHEMA)
USER = Message("user", (Text("hi"),))
MINTED = "call_ops_0123"


def said(conversation: Conversation, **how: Any) -> dict[str, Any]:
    return written(SPEECH, conversation, **{"model": MODEL, **how})


def contents(*messages: Message) -> Any:
    return said(asked(messages=messages))["contents"]


# Where to send, with which headers ------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "model", "stream", "url"),
    [
        ("https://h", "gem-1", False, "https://h/v1beta/models/gem-1:generateContent"),
        ("https://h/v1/", "gem-1", False, "https://h/v1/models/gem-1:generateContent"),
        (
            *("https://h/v1beta", "models/gem-1", True),
            "https://h/v1beta/models/gem-1:streamGenerateContent?alt=sse",
        ),
        ("https://h", "tunedModels/a?b", False, "https://h/v1beta/tunedModels/a%3Fb:generateContent"),
    ],
)  # fmt: skip
def test_model_and_stream_stand_in_the_address(
    base: str, model: str, stream: bool, url: str
) -> None:
    """Streams as server-sent events: without `alt=sse` they are one list that grows."""
    assert ADAPTER.url(place(base, model), call(stream=stream)) == url


def test_the_key_stands_in_a_header_and_not_in_the_address() -> None:
    assert dict(ADAPTER.headers(PLACE, call()))[b"x-goog-api-key"] == SECRET.encode()
    assert SECRET not in ADAPTER.url(PLACE, call())


# What is said ----------------------------------------------------------------------------


def test_a_plain_question() -> None:
    assert said(asked("hi")) == {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "generationConfig": {"maxOutputTokens": 4096},
    }


#: What Google's Python package (google-genai 3.4) sends for the same call; names it writes in
#: snake case are here as its specification has them, and both are read there.
SDK_BODY: dict[str, Any] = {
    "contents": [
        {
            "role": "user",
            "parts": [
                {"text": "Weather?"},
                {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
            ],
        },
        {
            "role": "model",
            "parts": [
                {
                    "functionCall": {"name": "lookup", "args": {"city": "Oslo"}},
                    "thoughtSignature": "c2ln",
                }
            ],
        },
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "lookup", "response": {"output": "rain"}}}],
        },
    ],
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "tools": [
        {
            "functionDeclarations": [
                {
                    "name": "lookup",
                    "description": "Finds the weather",
                    "parametersJsonSchema": SCHEMA,
                }
            ]
        }
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["lookup"]}},
    "generationConfig": {
        "temperature": 0.5,
        "topP": 0.5,
        "topK": 7,
        "maxOutputTokens": 99,
        "stopSequences": ["END"],
        "presencePenalty": 0.5,
        "frequencyPenalty": 0.25,
        "seed": 7,
        "responseMimeType": "application/json",
        "responseJsonSchema": SCHEMA,
        "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "LOW"},
    },
}


def test_what_is_sent_is_what_its_own_sdk_sends() -> None:
    conversation = asked(
        system=(Text("Be brief."),),
        messages=(
            Message("user", (Text("Weather?"), Media("image", "image/png", "aGk="))),
            Message("assistant", (ToolCall(MINTED, "lookup", '{"city": "Oslo"}', "c2ln"),)),
            Message("user", (ToolResult(MINTED, "", (Text("rain"),)),)),
        ),
        tools=(LOOKUP,),
        tool_choice=ToolChoice("tool", "lookup"),
        output_max=99,
        stop=("END",),
        sampling=Sampling(0.5, 0.5, 7, 7, 0.5, 0.25),
        shape=Shape(SCHEMA),
        reasoning=Reasoning("low"),
    )
    assert said(conversation) == SDK_BODY
    assert said(conversation, stream=True) == SDK_BODY


def test_its_own_ids_go_back_and_ours_do_not() -> None:
    """It told one of the two calls; the other's was made here, for the client alone."""
    calls = (ToolCall("theirs", "a", "{}"), ToolCall(MINTED, "b", "{}"))
    results = (ToolResult("theirs", "a", (Text("1"),)), ToolResult(MINTED, "b", (Text("2"),)))
    [_, model, user] = contents(USER, Message("assistant", calls), Message("user", results))
    assert [part["functionCall"].get("id") for part in model["parts"]] == ["theirs", None]
    assert [part["functionResponse"].get("id") for part in user["parts"]] == ["theirs", None]


def test_signatures_go_back_where_they_came() -> None:
    parts = (
        Thinking("hm"),
        Thinking("so", "s1"),
        Text("four"),
        Thinking("", "s2"),
        Refusal("no"),
        ToolCall("a", "b", "{}", "s3"),
    )
    assert contents(USER, Message("assistant", parts))[1]["parts"] == [
        {"text": "hm", "thought": True},
        {"text": "so", "thought": True, "thoughtSignature": "s1"},
        {"text": "four"},
        {"text": "", "thoughtSignature": "s2"},
        {"text": "no"},
        {"functionCall": {"id": "a", "name": "b", "args": {}}, "thoughtSignature": "s3"},
    ]


@pytest.mark.parametrize(
    ("result", "response"),
    [
        (ToolResult("a", "b", (Text("rain"),)), {"response": {"output": "rain"}}),
        (ToolResult("a", "b", (Text('{"c": 1}'),)), {"response": {"output": {"c": 1}}}),
        (ToolResult("a", "b", (Text("{rain"),)), {"response": {"output": "{rain"}}),
        (ToolResult("a", "b", (Text("no"),), is_error=True), {"response": {"error": "no"}}),
        (
            ToolResult("a", "b", (Media("image", "image/png", "aGk="),)),
            {
                "response": {"output": ""},
                "parts": [{"inlineData": {"mimeType": "image/png", "data": "aGk="}}],
            },
        ),
    ],
)
def test_what_a_tool_gave(result: ToolResult, response: dict[str, Any]) -> None:
    [user] = contents(Message("user", (Text("and?"), result)))
    assert user["parts"][0] == {"functionResponse": {"id": "a", "name": "b", **response}}
    assert user["parts"][1] == {"text": "and?"}


@pytest.mark.parametrize(
    ("media", "part"),
    [
        (
            Media("audio", "audio/wav", "aGk="),
            {"inlineData": {"mimeType": "audio/wav", "data": "aGk="}},
        ),
        (
            Media("file", "application/pdf", "aGk=", detail="auto"),
            {"inlineData": {"mimeType": "application/pdf", "data": "aGk="}},
        ),
        (
            Media("file", url="https://generativelanguage.googleapis.com/v1beta/files/x"),
            {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x"}},
        ),
        (
            Media("image", "image/png", "aGk=", detail="low"),
            {
                "inlineData": {"mimeType": "image/png", "data": "aGk="},
                "mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"},
            },
        ),
    ],
)
def test_images_sounds_and_files(media: Media, part: dict[str, Any]) -> None:
    assert contents(Message("user", (media,)))[0]["parts"] == [part]


@pytest.mark.parametrize(
    ("choice", "strict", "expected"),
    [
        (None, None, None),
        (None, True, {"mode": "VALIDATED"}),
        (ToolChoice("auto", parallel=True), None, {"mode": "AUTO"}),
        (ToolChoice("auto"), True, {"mode": "VALIDATED"}),
        (ToolChoice("none"), True, {"mode": "NONE"}),
        (ToolChoice("any"), True, {"mode": "ANY"}),
        (ToolChoice("tool", "lookup"), None, {"mode": "ANY", "allowedFunctionNames": ["lookup"]}),
    ],
)
def test_which_tool_it_may_call(
    choice: ToolChoice | None, strict: bool | None, expected: dict[str, Any] | None
) -> None:
    body = said(asked(tools=(Tool("lookup", "", {}, strict),), tool_choice=choice))
    assert body.get("toolConfig") == (expected and {"functionCallingConfig": expected})
    assert body["tools"] == [{"functionDeclarations": [{"name": "lookup"}]}]


@pytest.mark.parametrize(
    ("model", "reasoning", "expected"),
    [
        (MODEL, Reasoning("none"), {"thinkingBudget": 0}),
        (MODEL, Reasoning(off=True), {"thinkingBudget": 0}),
        (MODEL, Reasoning("low", shown=False), {"includeThoughts": False, "thinkingLevel": "LOW"}),
        (MODEL, Reasoning(tokens=9), {"includeThoughts": True, "thinkingBudget": 9}),
        (MODEL, Reasoning(), {"includeThoughts": True}),
        (
            *("gemini-2.5-flash", Reasoning("medium")),
            {"includeThoughts": True, "thinkingBudget": 8192},
        ),
    ],
)  # fmt: skip
def test_how_much_it_thinks(model: str, reasoning: Reasoning, expected: dict[str, Any]) -> None:
    body = said(asked(reasoning=reasoning), model=model)
    assert body["generationConfig"]["thinkingConfig"] == expected


def test_its_own_settings_pass() -> None:
    safety = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    body = said(asked(others={"safety_settings": safety, "cached_content": "cachedContents/1"}))
    assert (body["safetySettings"], body["cachedContent"]) == (safety, "cachedContents/1")


def test_any_json() -> None:
    config = said(asked(shape=Shape()))["generationConfig"]
    assert config == {"maxOutputTokens": 4096, "responseMimeType": "application/json"}


def turn(*parts: Any, role: Any = "user") -> Conversation:
    return asked(messages=(Message(role, parts),))


REFUSED: dict[str, Conversation] = {
    "`n`": asked(choices=2),
    "`logprobs`": asked(others={"logprobs": True}),
    "More than 5 stop sequences": asked(stop=tuple("abcdef")),
    "One tool call at a time": asked(tools=(LOOKUP,), tool_choice=ToolChoice(parallel=False)),
    "A system message between turns": asked(messages=(USER, Message("system", (Text("a"),)))),
    "The name of a message's author": asked(messages=(Message("user", (Text("a"),), "Ann"),)),
    "Data by its address": turn(Media("image", url="https://h/a.png")),
    "A file by its id": turn(Media("file", file_id="file_1")),
    "Data without its media type": turn(Media("image", data="a")),
    "The `detail` of an image": turn(Media("image", "image/png", "a", detail="fine")),
    "A thought that nobody may read": turn(Thinking("", redacted="x"), role="assistant"),
    "A call of `lookup` whose arguments": turn(ToolCall("a", "lookup", "["), role="assistant"),
    "A tool's result without its call": turn(ToolResult("a", "", ())),
    "An effort of `max`": asked(reasoning=Reasoning("max")),
    "`citations`": turn(Text("a", {"citations": {"enabled": True}})),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_it_has_no_place_for_is_refused_by_name(what: str) -> None:
    with pytest.raises(NotCarried) as refused:
        said(REFUSED[what])
    assert str(refused.value).startswith(what)


def test_what_changes_no_answer_is_left_out() -> None:
    marked = (Message("user", (Text("hi", {"cache_control": {"type": "ephemeral"}}),)),)
    assert said(asked(messages=marked, user="somebody")) == said(asked("hi"))


def test_what_is_no_conversation_goes_to_its_layer_of_openais_dialect() -> None:
    embedding = call("embeddings", input="hi")
    assert ADAPTER.url(place("https://h/v1beta"), embedding) == "https://h/v1beta/openai/embeddings"
    assert ADAPTER.url(place("https://h"), call("images")).endswith("/openai/images/generations")
    assert dict(ADAPTER.headers(PLACE, embedding))[b"authorization"].startswith(b"Bearer ")
    assert orjson.loads(ADAPTER.body(PLACE, embedding))["model"] == MODEL
    used = ADAPTER.usage(b'{"usage": {"prompt_tokens": 9, "total_tokens": 9}}')
    assert used is not None
    assert used.tokens == {"input": 9}


# What it answers -------------------------------------------------------------------------


def frame(*parts: dict[str, Any], used: dict[str, Any] | None = None, **more: Any) -> Any:
    candidate = {"content": {"role": "model", "parts": [*parts]}, "index": 0, **more}
    rest = {"modelVersion": "gemini-3", "responseId": "r1"}
    return {"candidates": [candidate], "usageMetadata": used or {}, **rest}


USED = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
LAST = {
    "promptTokenCount": 10,
    "cachedContentTokenCount": 4,
    "candidatesTokenCount": 7,
    "thoughtsTokenCount": 20,
    "toolUsePromptTokenCount": 3,
    "totalTokenCount": 40,
}
CALL = {"functionCall": {"name": "lookup", "args": {"a": 1}}, "thoughtSignature": "s1"}
STREAM = events(
    frame({"text": "hm", "thought": True}, used=USED),
    frame({"text": "Zürich"}, {"text": ", \u2028wait"}, used=USED),
    frame({"text": "", "thoughtSignature": "s0"}, CALL),
    frame({"functionCall": {"id": "theirs", "name": "now"}}, used=LAST, finishReason="STOP"),
    end="\r\n",
    named=False,
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 20])
def test_a_stream_is_read_however_it_is_cut(size: int) -> None:
    """Lines end in CRLF; there are no names, and no mark at its end."""
    answer = told(streamed(SPEECH, STREAM, size))
    assert (answer.id, answer.model) == ("r1", "gemini-3")
    assert answer.text == "Zürich, \u2028wait"
    assert answer.thoughts == [("hm", "s0")]
    [[minted, *first], second] = answer.calls
    assert minted.startswith("call_ops_")
    assert first == ["lookup", '{"a":1}', "s1"]
    assert second == ["theirs", "now", "{}", ""]
    assert (answer.reason, answer.native) == ("tool_calls", "STOP")
    tokens = {"input": 9, "cache_read": 4, "output": 7, "reasoning": 20}
    assert (answer.usage, answer.partial) == (tokens, False)


def test_a_whole_answer_says_the_same() -> None:
    parts = ({"text": "hm", "thought": True}, {"text": "Zürich"}, CALL)
    answer = told(SPEECH.whole(orjson.dumps(frame(*parts, used=LAST, finishReason="STOP"))))
    assert (answer.text, answer.thoughts) == ("Zürich", [("hm", "")])
    assert [one[1:] for one in answer.calls] == [["lookup", '{"a":1}', "s1"]]
    assert answer.reason == "tool_calls"


def test_a_stream_that_breaks_off_has_no_reason_and_its_last_count() -> None:
    answer = told(streamed(SPEECH, STREAM[: STREAM.index(b"theirs")]))
    assert (answer.reason, answer.usage) == ("", {"input": 10, "output": 5})


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("LANGUAGE", "content_filter"),
        ("SPII", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"),
        ("MODEL_ARMOR", "content_filter"),
        ("UNHEARD_OF", "stop"),
    ],
)
def test_why_it_stopped(native: str, reason: str) -> None:
    answer = told(SPEECH.whole(orjson.dumps(frame(finishReason=native))))
    assert (answer.reason, answer.native) == (reason, native)


@pytest.mark.parametrize(
    "native", ["MALFORMED_FUNCTION_CALL", "MISSING_THOUGHT_SIGNATURE", "MALFORMED_RESPONSE"]
)
def test_where_the_model_failed_nothing_has_ended_well(native: str) -> None:
    answer = told(SPEECH.whole(orjson.dumps(frame(finishReason=native, finishMessage="why"))))
    assert (answer.reason, answer.failed) == ("", Failed(native, "why"))


def test_a_blocked_prompt_is_a_success_without_candidates() -> None:
    """Its tokens are charged all the same."""
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "responseId": "r1"}
    answer = told(SPEECH.whole(orjson.dumps({**blocked, "usageMetadata": {"promptTokenCount": 9}})))
    assert (answer.id, answer.reason, answer.native) == ("r1", "content_filter", "SAFETY")
    assert answer.usage == {"input": 9}


def test_data_in_an_answer_is_no_silence() -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": "aGk="}}
    failed = told(SPEECH.whole(orjson.dumps(frame(picture, finishReason="STOP")))).failed
    assert failed is not None
    assert failed.kind == "not_carried"


ERROR: dict[str, Any] = {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}


def test_an_error_inside_of_a_success() -> None:
    stream = STREAM[: STREAM.index(b"\r\n\r\n") + 4] + events(ERROR, named=False)
    assert told(streamed(SPEECH, stream)).failed == Failed("UNAVAILABLE", "busy")
    assert SPEECH.whole(orjson.dumps(ERROR)) == (Failed("UNAVAILABLE", "busy"),)


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b"7", b"{}"])
def test_what_is_no_answer_failed(answer: bytes) -> None:
    [failed] = SPEECH.whole(answer)
    assert isinstance(failed, Failed)


PARTS = ("text", "thought", "thoughtSignature", "functionCall", "inlineData", "name", "args")
FRAMES = rubbish(
    names=("candidates", "content", "parts", "usageMetadata", "promptFeedback", "error", *PARTS)
)


@given(FRAMES)
@settings(max_examples=60)
def test_rubbish_hurts_nobody(frames: list[dict[str, Any]]) -> None:
    reader = SPEECH.reader()
    for one in frames:
        list(reader.feed(orjson.dumps({**frame(one, used=one, **one), **one})))
        SPEECH.whole(orjson.dumps(frame(one, used=one)))


# What it used ----------------------------------------------------------------------------


def kinds(**counts: int) -> list[dict[str, Any]]:
    return [{"modality": name, "tokenCount": number} for name, number in counts.items()]


@pytest.mark.parametrize(
    ("usage", "tokens", "doubt"),
    [
        (USED, {"input": 10, "output": 5}, ""),
        (LAST, {"input": 9, "cache_read": 4, "output": 7, "reasoning": 20}, ""),
        ({"promptTokenCount": 9, "totalTokenCount": 9}, {"input": 9}, ""),
        ({"promptTokenCount": 0}, {}, ""),
        ({"promptTokenCount": 9, "totalTokenCount": 12}, {"input": 9}, "total_differs"),
        ({"promptTokenCount": 9, "candidatesTokenCount": -4}, {"input": 9}, "count_absurd"),
        (
            {
                "promptTokenCount": 100,
                "cachedContentTokenCount": 30,
                "promptTokensDetails": kinds(TEXT=50, AUDIO=30, IMAGE=15, VIDEO=5),
                "cacheTokensDetails": kinds(TEXT=15, AUDIO=10, IMAGE=5),
            },
            {
                **{"input": 35, "audio_in": 20, "image_in": 10, "video_in": 5},
                **{"cache_read": 15, "cache_audio_in": 10, "cache_image_in": 5},
            },
            "",
        ),
        (
            {"candidatesTokenCount": 9, "candidatesTokensDetails": kinds(IMAGE=7, AUDIO=5)},
            {"audio_out": 5, "image_out": 4},
            "",
        ),
    ],
)
def test_usage_is_counted_in_classes_that_do_not_overlap(
    usage: dict[str, Any], tokens: dict[str, int], doubt: str
) -> None:
    found = read_usage(usage)
    assert found is not None
    assert (found.tokens, found.doubt) == (tokens, doubt)
    assert ADAPTER.usage(orjson.dumps({"usageMetadata": usage})) == found


@pytest.mark.parametrize("usage", [{}, {"promptTokenCount": "9"}, {"totalTokenCount": 9}])
def test_what_counts_nothing_is_no_usage(usage: dict[str, Any]) -> None:
    assert read_usage(usage) is None


# What an error means ---------------------------------------------------------------------


def error(status: int, **more: Any) -> bytes:
    return orjson.dumps({"error": {"code": status, "message": f"why {SECRET}", **more}})


@pytest.mark.parametrize(
    ("status", "passed"), [(400, 400), (404, 404), (429, 429), (402, 502), (499, 503), (504, 503)]
)
def test_a_refusal_keeps_its_words_and_what_a_caller_can_mend(status: int, passed: int) -> None:
    problem = ADAPTER.error(PLACE, status, error(status))
    assert problem.status == passed
    assert problem.sentence.endswith(f"status {status}: why ***")
    assert ADAPTER.error(PLACE, status, b"[%b]" % error(status)).sentence == problem.sentence


def test_how_long_to_wait_is_told_in_the_body() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7.2s"}]
    problem = ADAPTER.error(PLACE, 429, error(429, details=details))
    assert ("retry-after", "8") in problem.fields()
    assert problem.retry is None


def test_a_quota_of_the_day_is_not_tried_again() -> None:
    details = [{"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}]}]
    problem = ADAPTER.error(PLACE, 429, error(429, details=details))
    assert ("x-should-retry", "false") in problem.fields()


@pytest.mark.parametrize(
    ("status", "details"), [(400, [{"reason": "API_KEY_INVALID"}]), (401, []), (403, [])]
)
def test_a_refused_key_is_not_the_callers(status: int, details: list[dict[str, str]]) -> None:
    problem = ADAPTER.error(PLACE, status, error(status, details=details))
    assert isinstance(problem, UpstreamKeyRefused)
    assert SECRET not in problem.sentence
