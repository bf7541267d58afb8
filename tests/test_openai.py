"""The OpenAI dialect: what is sent to a provider, what its usage and its errors mean."""

from typing import Any

import orjson
import pytest

from proxy.errors import OpsError, UpstreamKeyRefused, UpstreamRefused
from proxy.providers.catalog import ADAPTERS
from proxy.providers.fields import TOKENS_MAX
from proxy.providers.openai import ERROR_TEXT_MAX, OpenAI
from proxy.providers.openai_usage import read_usage
from proxy.types import Call, Deployment

SECRET = "sk-provider-0123456789"
ADAPTER = OpenAI()
PLACE = Deployment(1, "gpt", "openai", "openai", "https://api.example.com/v1/", "gpt-4", SECRET)
BARE = Deployment(2, "gpt", "local", "openai", "http://127.0.0.1:1/v1", "gpt-4")


def call(**fields: Any) -> Call:
    body = orjson.dumps({"model": "gpt", "messages": [], **fields})
    stream = bool(fields.get("stream"))
    wanted = stream and (fields.get("stream_options") or {}).get("include_usage") is True
    return Call("rid", "/", body, orjson.loads(body), "gpt", stream, wanted, None, None)


def sent(asked: Call) -> dict[str, Any]:
    found = orjson.loads(ADAPTER.body(PLACE, asked))
    assert isinstance(found, dict)
    return found


# Where to send, with which headers, which body ---------------------------------------


@pytest.mark.parametrize("base", ["https://h/v1", "https://h/v1/", "https://h/v1//"])
def test_the_path_follows_the_base_url(base: str) -> None:
    place = Deployment(1, "m", "p", "openai", base, "m")
    assert ADAPTER.url(place, call()) == "https://h/v1/chat/completions"


@pytest.mark.parametrize(("stream", "accept"), [(False, b"application/json"), (True, b"event")])
def test_the_headers_are_ours_and_the_keys_never_the_clients(stream: bool, accept: bytes) -> None:
    headers = dict(ADAPTER.headers(PLACE, call(stream=stream)))
    assert headers[b"authorization"] == b"Bearer " + SECRET.encode()
    assert accept in headers[b"accept"]
    assert headers[b"accept-encoding"] == b"identity"
    assert headers[b"x-request-id"] == b"rid"


def test_a_provider_without_a_key_gets_no_authorization() -> None:
    assert b"authorization" not in dict(ADAPTER.headers(BARE, call()))


def test_every_field_goes_on_as_it_was_read_but_the_models_name() -> None:
    fields = {"temperature": 0.1, "tools": [{"a": None}], "x": 2**63, "user": "ü\u2028", "s": ""}
    asked = call(**fields)
    assert sent(asked) == {**asked.fields, "model": "gpt-4"}


def test_a_maximum_has_the_name_that_its_server_knows() -> None:
    """One that does not know the newer name would answer at any length."""
    newer, older = {"max_completion_tokens": 7}, {"max_tokens": 7}
    knowing = Deployment(
        3, "m", "p", "compatible", "http://h/v1", "m", quirks={"maximum": "max_completion_tokens"}
    )
    for name, place, fields, wanted in (
        ("openai", BARE, newer, newer),
        ("compatible", BARE, newer, older),
        ("compatible", BARE, {**newer, "max_tokens": None}, older),
        ("compatible", BARE, {**newer, "max_tokens": 9}, {**newer, "max_tokens": 9}),
        ("compatible", knowing, newer, newer),
    ):
        body = orjson.loads(ADAPTERS[name].body(place, call(**fields)))
        assert {one: most for one, most in body.items() if one.startswith("max_")} == wanted


def test_the_provider_reads_the_model_that_was_admitted() -> None:
    """A name that stands twice is sent once: no parser can take the other one, nor be billed."""
    body = b'{"model":"gpt-dear","n":9,"n":1,"messages":[],"mod\\u0065l":"gpt-4"}'
    asked = Call("rid", "/", body, orjson.loads(body), "gpt-4", False, False, None, None)
    assert ADAPTER.body(PLACE, asked).count(b'"model"') == 1
    assert sent(asked) == {"model": "gpt-4", "n": 1, "messages": []}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (None, {"include_usage": True}),
        ({}, {"include_usage": True}),
        ({"include_usage": False}, {"include_usage": True}),
        ({"include_usage": True}, {"include_usage": True}),
        ({"a": 1}, {"a": 1, "include_usage": True}),
    ],
)
def test_every_stream_asks_the_provider_for_its_usage(
    options: dict[str, Any] | None, expected: dict[str, Any]
) -> None:
    """Without it nothing exact could be charged; whether the client sees it is another matter."""
    asked = call(stream=True, stream_options=options)
    assert sent(asked)["stream_options"] == expected
    assert asked.fields["stream_options"] == options


def test_a_plain_call_gets_no_options_of_streams() -> None:
    """Providers refuse them there."""
    assert "stream_options" not in sent(call())


# What was used ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 4}, {"input": 9, "output": 4}),
        ({"prompt_tokens": 9}, {"input": 9}),
        ({"completion_tokens": 4}, {"output": 4}),
        ({"prompt_tokens": 0, "completion_tokens": 0}, {}),
        ({"prompt_tokens": 9.0, "completion_tokens": 4.2}, {"input": 9, "output": 5}),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}},
            {"input": 5, "cache_read": 4},
        ),
        (
            {
                "prompt_tokens": 9,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
            },
            {"input": 2, "cache_read": 4, "cache_write": 3},
        ),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": {"audio_tokens": 6, "image_tokens": 1}},
            {"input": 2, "audio_in": 6, "image_in": 1},
        ),
        (
            {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 9}},
            {"reasoning": 9},
        ),
        (
            {
                "completion_tokens": 9,
                "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 3},
            },
            {"output": 4, "reasoning": 2, "audio_out": 3},
        ),
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 4}, {"input": 5, "cache_read": 4}),
        ({"prompt_tokens": 9, "cached_tokens": 4}, {"input": 5, "cache_read": 4}),
        (
            {"prompt_tokens": 9, "citation_tokens": 3, "num_search_queries": 2},
            {"input": 9, "citation": 3, "web_searches": 2},
        ),
        ({"prompt_tokens": 9, "prompt_audio_seconds": 7}, {"input": 9, "seconds": 7}),
        ({"prompt_tokens": 9, "prompt_tokens_details": None}, {"input": 9}),
        ({"prompt_tokens": 9, "prompt_tokens_details": [1]}, {"input": 9}),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": None}}, {"input": 9}),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": -1}}, {"input": 9}),
    ],
)
def test_usage_is_counted_in_classes_that_do_not_overlap(
    usage: dict[str, Any], tokens: dict[str, int]
) -> None:
    """Cached tokens lie inside the prompt, reasoning inside the completion; each is priced once."""
    found = ADAPTER.usage(orjson.dumps({"usage": usage}))
    assert found is not None
    assert found.tokens == tokens
    assert found.source == "provider"


@pytest.mark.parametrize(
    "details",
    [
        {"cached_tokens": 20},
        {"cached_tokens": 8, "audio_tokens": 8},
        {"cached_tokens": 5, "cache_write_tokens": 5, "audio_tokens": 5, "image_tokens": 5},
    ],
)
def test_the_parts_never_cost_more_tokens_than_the_whole(details: dict[str, int]) -> None:
    """Cached audio is told twice, once in each class; the hold covers the prompt alone."""
    found = read_usage({"prompt_tokens": 10, "prompt_tokens_details": details})
    assert found is not None
    assert sum(found.tokens.values()) == 10
    assert min(found.tokens.values()) >= 0


@pytest.mark.parametrize(("total", "output"), [(109, 0), (409, 9), (None, 0), (500, 0)])
def test_reasoning_beside_the_completion_is_seen_by_the_total(
    total: int | None, output: int
) -> None:
    """Some providers count it apart; then their total holds it a second time."""
    found = read_usage(
        {
            "prompt_tokens": 100,
            "completion_tokens": 9,
            "total_tokens": total,
            "completion_tokens_details": {"reasoning_tokens": 300},
        }
    )
    assert found is not None
    assert found.tokens.get("output", 0) == output
    assert found.tokens["reasoning"] == (300 if total == 409 else 9)


@pytest.mark.parametrize(
    ("usage", "doubt"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}, ""),
        ({"prompt_tokens": 9, "completion_tokens": 4}, ""),
        ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 15}, "total_differs"),
        ({"prompt_tokens": 9, "completion_tokens": -4}, "count_absurd"),
        ({"prompt_tokens": 9, "total_tokens": 9, "cost": 0.01, "is_byok": False}, ""),
    ],
)
def test_a_reading_that_does_not_add_up_is_doubted(usage: dict[str, Any], doubt: str) -> None:
    found = read_usage(usage)
    assert found is not None
    assert found.doubt == doubt


def test_one_tells_its_usage_below_a_name_of_its_own() -> None:
    told = {"x_groq": {"id": "r", "usage": {"prompt_tokens": 9}}, "usage": None}
    found = ADAPTER.usage(orjson.dumps(told))
    assert found is not None
    assert found.tokens == {"input": 9}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"no json",
        b"[]",
        b"7",
        b"{}",
        b"[DONE]",
        b'{"usage":null}',
        b'{"usage":[]}',
        b'{"usage":{}}',
        b'{"usage":{"prompt_tokens":null}}',
        b'{"usage":{"prompt_tokens":true,"completion_tokens":false}}',
        b'{"usage":{"prompt_tokens":-1}}',
        b'{"usage":{"prompt_tokens":"9"}}',
        b'{"usage":{"prompt_tokens":1e300}}',
        b'{"usage":{"prompt_tokens":99999999999999999999}}',
        b'{"usage":{"prompt_tokens":%d}}' % (TOKENS_MAX + 1),
        b'{"usage":{"total_tokens":5}}',
        b'{"usage":' * 900,
        b'\xff{"usage":{"prompt_tokens":1}}',
    ],
    ids=lambda answer: answer[:44].decode("latin-1"),
)
def test_what_counts_nothing_is_no_usage(answer: bytes) -> None:
    """Then it is estimated and marked so, which is other than a provider's zero."""
    assert ADAPTER.usage(answer) is None


# What an error means -------------------------------------------------------------------


def problem(status: int, answer: bytes = b'{"error":{"message":"why"}}') -> OpsError:
    return ADAPTER.error(PLACE, status, answer)


@pytest.mark.parametrize(
    ("status", "passed", "kind"),
    [
        (400, 400, "invalid_request_error"),
        (404, 404, "invalid_request_error"),
        (409, 409, "invalid_request_error"),
        (413, 413, "invalid_request_error"),
        (415, 415, "invalid_request_error"),
        (422, 422, "invalid_request_error"),
        (429, 429, "rate_limit_error"),
        (402, 502, "server_error"),
        (405, 502, "server_error"),
        (418, 502, "server_error"),
        (301, 502, "server_error"),
        (307, 502, "server_error"),
        (501, 502, "server_error"),
        (408, 503, "server_error"),
        (498, 503, "server_error"),
        (500, 503, "server_error"),
        (502, 503, "server_error"),
        (503, 503, "server_error"),
        (504, 503, "server_error"),
        (529, 503, "server_error"),
    ],
)
def test_a_status_passes_when_the_caller_can_mend_it(status: int, passed: int, kind: str) -> None:
    """All else is ours or the provider's fault; the SDK raises its own error by status and type."""
    found = problem(status)
    assert isinstance(found, UpstreamRefused)
    assert (found.status, found.kind, found.code) == (passed, kind, "upstream_refused")
    assert found.sentence.endswith(f"answered with status {status}: why")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_not_the_callers(status: int) -> None:
    """He sees a bad gateway, not a 401 that would tell him to change his own key."""
    found = problem(status, b'{"error":{"message":"Incorrect API key: %s"}}' % SECRET.encode())
    assert isinstance(found, UpstreamKeyRefused)
    assert found.status == 502
    assert SECRET not in found.sentence


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b'{"error":{"message":"too long"}}', "too long"),
        (b'{"error":"too long"}', "too long"),
        (b'{"message":"too long"}', "too long"),
        (b'"too long"', "too long"),
        (b'[{"error":{"message":"too long"}}]', "too long"),
        (b"too long", "too long"),
        (b"  too long\n", "too long"),
        (b"", "no message"),
        (b"{}", "no message"),
        (b"[]", "no message"),
        (b"null", "no message"),
        (b'{"error":null}', "no message"),
        (b'{"error":{"message":""}}', "no message"),
        (b'{"error":{"message":{"a":1}}}', "{'a': 1}"),
        (b"\xff\xfe", "��"),
        (b'{"error":{"message":"{model} {0} %s"}}', "{model} {0} %s"),
    ],
)
def test_the_providers_words_are_found_wherever_it_puts_them(answer: bytes, message: str) -> None:
    assert problem(400, answer).sentence.endswith(f"status 400: {message}")


@pytest.mark.parametrize("template", [b'{"error":{"message":"%s"}}', b"%s", b'{"error":["%s"]}'])
@pytest.mark.parametrize("before", [0, ERROR_TEXT_MAX - len(SECRET) // 2])
def test_the_key_never_comes_back_in_a_message(template: bytes, before: int) -> None:
    """Also not the half of it, where the message is cut in its middle."""
    found = problem(400, template % (b"x" * before + SECRET.encode() + b" " + SECRET.encode()))
    assert SECRET[:8] not in found.sentence
    assert "*" in found.sentence


def test_a_long_message_is_cut() -> None:
    assert len(problem(400, b"x" * 100_000).sentence) < ERROR_TEXT_MAX + 100


def test_every_adapter_of_the_catalogue_answers_the_five_questions() -> None:
    for adapter in ADAPTERS.values():
        assert adapter.url(PLACE, call())
        assert adapter.headers(PLACE, call())
        assert adapter.body(PLACE, call()) if adapter.native else adapter.speech
        assert adapter.usage(b"") is None
        assert adapter.error(PLACE, 500, b"").status == 503
