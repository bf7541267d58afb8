"""The doors beside conversations, through OpenAI's real package: what goes out, what comes back,
and what is charged for it.
"""

import base64
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest

from bench.other_doors import SOUND
from bench.plain_wires import VECTOR
from bench.upstream import FakeUpstream
from control.books.verify import verify
from proxy.costs.price import SECONDS_PER_HOUR
from tests.door_stage import DoorStage, door

TOKENS = {"input": 1_000_000_000, "output": 10_000_000_000}  # 1,000 and 10,000 ucr for a token
MODEL = "mock/ok?in=7&out=8"


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    patient = {"OPSCENTER_REDIS_TIMEOUT_MS": "5000"}
    async with door(home, redis_url, database_url, **patient) as stage:
        yield stage


@pytest.fixture
async def fake(stage: DoorStage) -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as upstream:
        await stage.add_provider(upstream.url + "/v1", "sk-provider")
        yield upstream


@pytest.fixture
async def sdk(stage: DoorStage) -> AsyncIterator[openai.AsyncOpenAI]:
    base = stage.url + "/v1"
    async with openai.AsyncOpenAI(base_url=base, api_key=stage.key, max_retries=0) as client:
        yield client


async def booked(stage: DoorStage) -> list[tuple[str, dict[str, int], str, int]]:
    """Of each request: its reason, what it used, who counted, its cost."""
    await stage.quiesce()
    report = await verify(stage.pool, stage.redis)
    assert report.ok, report
    assert (await stage.pool_in_redis())["h"] == 0
    rows = await stage.usage()
    return [(row["reason"], dict(row["tokens"]), row["usage_source"], row["cost"]) for row in rows]


async def test_embeddings_and_completions_are_charged_by_the_token(
    stage: DoorStage, fake: FakeUpstream, sdk: openai.AsyncOpenAI
) -> None:
    """The package asks for base64 by itself, and unpacks what comes."""
    model = await stage.add_model("m", MODEL, rates=TOKENS)
    found = await sdk.embeddings.create(model=model, input=["a", "b"], user="ann")
    assert [row.embedding for row in found.data] == [list(VECTOR)] * 2
    bare = await sdk.embeddings.create(model=model, input=[1, 2], encoding_format="float")
    assert bare.data[0].embedding == list(VECTOR)
    sent: Any = fake.requests[0].json
    assert (sent["encoding_format"], sent["input"]) == ("base64", ["a", "b"])
    whole = await sdk.completions.create(model=model, prompt=["x", "y"])
    assert whole.choices[0].text == "one two"
    assert orjson.loads(fake.requests[-1].body)["max_tokens"] == 16  # what they have unless told
    text = ""
    async for chunk in await sdk.completions.create(model=model, prompt="x", stream=True):
        assert chunk.usage is None  # nobody asked for it
        text += chunk.choices[0].text
    assert text == "one two"
    embedded, completed = {"input": 7}, {"input": 7, "output": 8}
    assert await booked(stage) == [
        ("usage_frame", embedded, "provider", 7_000),
        ("usage_frame", embedded, "provider", 7_000),
        ("usage_frame", completed, "provider", 87_000),
        ("usage_frame", completed, "provider", 87_000),
    ]


async def test_images_are_charged_by_the_image_or_by_the_token(
    stage: DoorStage, fake: FakeUpstream, sdk: openai.AsyncOpenAI
) -> None:
    by_image = {"images": 40_000_000_000_000, "images/hd": 80_000_000_000_000}
    await stage.add_model("dall-e", MODEL, rates=by_image)
    await stage.add_model("gpt-image", MODEL, rates=TOKENS)
    found = await sdk.images.generate(model="dall-e", prompt="a cat", n=2)
    assert found.data is not None
    assert len(found.data) == 2
    await sdk.images.generate(model="dall-e", prompt="a cat", quality="hd")
    await sdk.images.generate(model="gpt-image", prompt="a cat")
    alias = await stage.http.post(
        "/api/v1/llm/image/generations",
        json={"model": "dall-e", "prompt": "a cat"},
        headers={"authorization": f"Bearer {stage.key}"},
    )
    assert alias.headers["x-ops-cost"] == "40.000000"
    assert await booked(stage) == [
        ("usage_frame", {"images": 2}, "provider", 80_000_000),
        ("usage_frame", {"images/hd": 1}, "provider", 80_000_000),
        ("usage_frame", {"input": 7, "output": 8}, "provider", 87_000),
        ("usage_frame", {"images": 1}, "provider", 40_000_000),
    ]


async def test_speech_is_sound_as_it_comes_charged_by_the_character(
    stage: DoorStage, fake: FakeUpstream, sdk: openai.AsyncOpenAI
) -> None:
    model = await stage.add_model("tts", MODEL, rates={"characters": 15_000_000_000})
    newer = await stage.add_model("tts-2", MODEL, rates=TOKENS)
    async with sdk.audio.speech.with_streaming_response.create(
        model=model, input="Zürich", voice="alloy"
    ) as answer:
        assert answer.headers["content-type"] == "audio/mpeg"
        assert await answer.read() == SOUND
    body = {"model": newer, "input": "Zürich", "voice": "alloy", "stream_format": "sse"}
    streamed = await stage.http.post(
        "/v1/audio/speech", json=body, headers={"authorization": f"Bearer {stage.key}"}
    )
    assert base64.b64encode(SOUND).decode() in streamed.text
    assert await booked(stage) == [
        ("usage_frame", {"characters": 6}, "provider", 90_000),
        ("usage_frame", {"input": 7, "output": 8}, "provider", 87_000),
    ]


def wave(seconds: int) -> bytes:
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 0, b"WAVE", b"fmt ", 16, 1, 1, 8000, 8000,
                       1, 8, b"data", 0)  # fmt: skip
    return head + bytes(8000 * seconds - len(head))


async def test_sound_is_sent_on_as_a_form_and_charged_by_the_second(
    stage: DoorStage, fake: FakeUpstream, sdk: openai.AsyncOpenAI
) -> None:
    """As long as the provider says; where it says nothing as long as the sound is."""
    rates = {"seconds": 360_000_000_000 * SECONDS_PER_HOUR}
    model = await stage.add_model("whisper", MODEL, rates=rates)
    newer = await stage.add_model("transcribe", "mock/usage-early?in=7&out=8", rates=TOKENS)
    sound = wave(3)
    heard = await sdk.audio.transcriptions.create(model=model, file=("a.wav", sound, "audio/wav"))
    assert heard.text == "one two"
    sent = fake.requests[-1].body
    assert sound in sent
    assert MODEL.encode() in sent
    assert b"whisper" not in sent
    english = await stage.http.post(
        "/v1/audio/translations",
        data={"model": model},
        files={"file": ("a.wav", sound, "audio/wav")},
        headers={"authorization": f"Bearer {stage.key}"},
    )
    assert english.json()["text"] == "one two"
    text = await sdk.audio.transcriptions.create(
        model=model, file=("a.wav", sound), response_format="text"
    )
    assert text.strip() == "one two"
    for streaming in (newer, model):
        pieces = [
            event.type
            async for event in await sdk.audio.transcriptions.create(
                model=streaming, file=("a.wav", sound), stream=True
            )
        ]
        assert pieces == ["transcript.text.delta", "transcript.text.done"]
    second = 360_000
    assert await booked(stage) == [
        ("usage_frame", {"seconds": 7}, "provider", 7 * second),
        ("usage_frame", {"seconds": 7}, "provider", 7 * second),
        ("no_usage_frame", {"seconds": 3}, "estimated", 3 * second),
        ("usage_frame", {"input": 7, "output": 8}, "provider", 87_000),
        ("usage_frame", {"seconds": 7}, "provider", 7 * second),
    ]


async def test_rerank_and_moderation(
    stage: DoorStage, fake: FakeUpstream, sdk: openai.AsyncOpenAI
) -> None:
    """A moderation may be free, when it is priced so."""
    await stage.add_model("rerank", MODEL, rates={"searches": 2_000_000_000_000})
    await stage.add_model("moderation", MODEL, rates={"input": 0})
    body = {"model": "rerank", "query": "q", "documents": ["a", "b"]}
    key = {"authorization": f"Bearer {stage.key}"}
    ranked = await stage.http.post("/v1/rerank", json=body, headers=key)
    assert [row["index"] for row in ranked.json()["results"]] == [0, 1]
    checked = await sdk.moderations.create(model="moderation", input="hello")
    assert not checked.results[0].flagged
    [(_, searches, _, cost), (_, _, _, free)] = await booked(stage)
    assert (searches, cost, free) == ({"searches": 1}, 2_000_000, 0)


async def test_responses_pass_untouched_where_they_are_spoken(
    stage: DoorStage, fake: FakeUpstream, sdk: openai.AsyncOpenAI
) -> None:
    """OpenAI's own answers OpenAI's clients: what is asked for besides reaches it too."""
    model = await stage.add_model("m", MODEL, rates=TOKENS)
    kept: Any = {"truncation": "auto", "service_tier": "flex"}
    whole = await sdk.responses.create(model=model, input="hello", **kept)
    assert whole.output_text.startswith("The quick brown fox")
    sent: Any = fake.requests[-1].json
    assert sent == {"model": MODEL, "input": "hello", **kept}
    text, last = "", ""
    async for event in await sdk.responses.create(model=model, input="hello", stream=True):
        last = event.type
        text += event.delta if event.type == "response.output_text.delta" else ""
    assert (text, last) == (whole.output_text, "response.completed")
    used = ("usage_frame", {"input": 7, "output": 8}, "provider", 87_000)
    assert await booked(stage) == [used, used]


@pytest.mark.parametrize(
    ("body", "kind", "param"),
    [
        (b"--x\r\n\r\nno\r\n--x--\r\n", "multipart/form-data; boundary=x", None),
        (b"{}", "application/json", None),
        (
            b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\na\r\n'
            b'--x\r\ncontent-disposition: form-data; name="file"\r\n\r\nb\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
            "file",
        ),
        (
            b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\na\r\n'
            b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nb\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
            "model",
        ),
    ],
)
async def test_a_form_that_could_be_read_in_two_ways_is_refused(
    stage: DoorStage, body: bytes, kind: str, param: str | None
) -> None:
    headers = {"authorization": f"Bearer {stage.key}", "content-type": kind}
    answer = await stage.http.post("/v1/audio/transcriptions", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


async def test_what_a_provider_has_no_door_for_is_refused_before_anything_is_held(
    stage: DoorStage, sdk: openai.AsyncOpenAI
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.embeddings.create(model="ops/echo", input="a")
    assert caught.value.code in ("not_carried", "price_unknown")
