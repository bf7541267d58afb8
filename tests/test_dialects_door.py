"""Clients of Anthropic and of OpenAI's Responses at a running door, before providers that speak
other dialects: real SDKs, real Redis and Postgres, a fake provider.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import orjson
import pytest

from bench.ask import SIGNATURE, TEXT, THOUGHT
from bench.upstream import FakeUpstream
from tests.door_stage import DoorStage, door

PROVIDERS = ("compatible", "anthropic", "gemini")
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
SAID = (TEXT * 3)[:160]
PIXEL = "iVBORw0KGgo="
ASKED: list[Any] = [{"role": "user", "content": "hi"}]
TOOL: Any = {"name": "weather", "description": "of a city", "input_schema": SCHEMA}
FUNCTION: Any = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": None}
CITIES = ["Zürich", "Oslo"]


class Talk:
    """A door, a fake provider behind it, and clients of both dialects."""

    def __init__(self, stage: DoorStage, fake: FakeUpstream) -> None:
        self.stage, self.fake = stage, fake
        self._models: set[str] = set()
        self.anthropic = anthropic.AsyncAnthropic(
            base_url=stage.url, api_key=stage.key, max_retries=0
        )
        self.openai = openai.AsyncOpenAI(
            base_url=f"{stage.url}/v1", api_key=stage.key, max_retries=0
        )

    async def model(self, provider: str, behaviour: str) -> str:
        name = f"{provider}/{re.sub('[^a-z0-9-]', '-', behaviour)}"
        if name not in self._models:
            self._models.add(name)
            await self.stage.add_model(name, f"mock/{behaviour}", provider=provider)
        return name

    def asked(self) -> Any:
        """What the provider was asked last."""
        return self.fake.requests[-1].json

    async def message(self, model: str, messages: Any = ASKED, **more: Any) -> Any:
        return await self.anthropic.messages.create(
            model=model, max_tokens=2000, messages=messages, **more
        )

    async def streamed(self, model: str, **more: Any) -> Any:
        async with self.anthropic.messages.stream(
            model=model, max_tokens=2000, messages=ASKED, **more
        ) as events:
            return await events.get_final_message()

    async def response(self, model: str, input: Any = "hi", **more: Any) -> Any:
        return await self.openai.responses.create(model=model, input=input, **more)

    async def streamed_response(self, model: str, **more: Any) -> Any:
        async with self.openai.responses.stream(model=model, input="hi", **more) as events:
            return await events.get_final_response()


@pytest.fixture
async def talk(home: Path, redis_url: str, database_url: str) -> AsyncIterator[Talk]:
    async with door(home, redis_url, database_url) as stage, FakeUpstream() as fake:
        for name in PROVIDERS:
            url = f"{fake.url}/v1" if name == "compatible" else fake.url
            await stage.add_provider(url, "k", name, name)
        talk = Talk(stage, fake)
        async with talk.anthropic, talk.openai:
            yield talk


# Messages -----------------------------------------------------------------------------


async def test_anthropics_clients_have_text_and_tools_of_every_provider(talk: Talk) -> None:
    for provider in PROVIDERS:
        ok = await talk.model(provider, "ok?in=12&out=34&cached=5&bytes=160")
        whole, stream = await talk.message(ok, system="Be brief."), await talk.streamed(ok)
        for one in (whole, stream):
            assert [block.text for block in one.content] == [SAID]
            assert one.stop_reason == "end_turn"
            usage = one.usage
            assert (usage.input_tokens, usage.cache_read_input_tokens) == (7, 5)
            assert usage.output_tokens == 34
        tools = await talk.model(provider, "tools")
        for one in (
            await talk.message(tools, tools=[TOOL]),
            await talk.streamed(tools, tools=[TOOL]),
        ):
            assert one.stop_reason == "tool_use"
            assert [call.input["city"] for call in one.content] == CITIES
            results = [
                {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
                for call in one.content
            ]
            turns = [
                *ASKED,
                {"role": "assistant", "content": one.content},
                {"role": "user", "content": results},
            ]
            assert (await talk.message(ok, turns, tools=[TOOL])).content[0].text == SAID


async def test_a_thought_goes_back_to_its_provider_as_it_came(talk: Talk) -> None:
    """By the Messages dialect in a block, by Responses in the one opaque field that it has."""
    thinking = await talk.model("anthropic", "thinking?bytes=160")
    adaptive = {"type": "adaptive", "display": "summarized"}
    shown = await talk.response(thinking, reasoning={"effort": "high", "summary": "auto"})
    assert talk.asked()["thinking"] == adaptive
    hidden = await talk.streamed_response(thinking, reasoning={"effort": "high"})
    assert [part.text for part in shown.output[0].summary] == [THOUGHT]
    assert hidden.output[0].summary == []
    for one in (shown, hidden):
        assert one.output_text == SAID
        await talk.response(thinking, [*one.output, {"role": "user", "content": "go on"}])
        back = talk.asked()["messages"][0]["content"][0]
        assert back == {"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE}
    seen = await talk.streamed(await talk.model("gemini", "thinking?bytes=160"), thinking=adaptive)
    assert [block.type for block in seen.content[:2]] == ["thinking", "text"]
    assert any(block.signature for block in seen.content if block.type == "thinking")
    assert seen.content[0].thinking == THOUGHT


async def test_images_and_shapes_reach_the_provider(talk: Talk) -> None:
    echo = await talk.model("compatible", "echo")
    source: Any = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    content: Any = [{"type": "image", "source": source}, {"type": "text", "text": "what?"}]
    shape: Any = {"format": {"type": "json_schema", "schema": SCHEMA}}
    await talk.message(
        echo, [{"role": "user", "content": content}], system="Be brief.", output_config=shape
    )
    messages = talk.asked()
    await talk.response(
        echo,
        [
            {
                "role": "user",
                "content": [
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
                    {"type": "input_text", "text": "what?"},
                ],
            }
        ],
        instructions="Be brief.",
        text={"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
    )
    for asked in (messages, talk.asked()):
        system, turn = asked["messages"]
        assert "Be brief." in orjson.dumps(system).decode()
        image, text = turn["content"]
        assert image["image_url"]["url"] == f"data:image/png;base64,{PIXEL}"
        assert text["text"] == "what?"
        assert asked["response_format"]["json_schema"]["schema"] == SCHEMA


async def test_tokens_are_counted_where_the_provider_cannot(talk: Talk) -> None:
    model = await talk.model("compatible", "ok")
    before = await talk.stage.pool_in_redis()
    counted = await talk.anthropic.messages.count_tokens(model=model, messages=ASKED)
    assert counted.input_tokens == 5
    assert await talk.stage.pool_in_redis() == before


# Responses ------------------------------------------------------------------------------


async def test_responses_clients_have_text_and_tools_of_every_provider(talk: Talk) -> None:
    for provider in PROVIDERS:
        ok = await talk.model(provider, "ok?in=12&out=34&cached=5&bytes=160")
        for one in (await talk.response(ok), await talk.streamed_response(ok)):
            assert (one.output_text, one.status, one.store) == (SAID, "completed", False)
            usage = one.usage
            assert (usage.input_tokens, usage.output_tokens) == (12, 34)
            assert usage.input_tokens_details.cached_tokens == 5
        tools = await talk.model(provider, "tools")
        for one in (
            await talk.response(tools, tools=[FUNCTION]),
            await talk.streamed_response(tools, tools=[FUNCTION]),
        ):
            calls = one.output
            assert [orjson.loads(call.arguments)["city"] for call in calls] == CITIES
            results = [
                {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
                for call in calls
            ]
            turns = [*ASKED, *calls, *results]
            assert (await talk.response(ok, turns, tools=[FUNCTION])).output_text == SAID


async def test_each_sdk_lists_the_models_in_its_own_shape(talk: Talk) -> None:
    """Anthropic's goes from page to page; both see the same, and one by its id, slashes and all."""
    made = {await talk.model("anthropic", f"ok?bytes={n}") for n in range(3)}
    page = await talk.anthropic.models.list(limit=2)
    assert (len(page.data), page.has_more, page.last_id) == (2, True, page.data[-1].id)
    listed = [model async for model in page]
    assert {model.id for model in listed} == {*made, "ops/echo"}
    assert all(model.created_at.year > 2000 for model in listed)
    assert {model.id async for model in talk.openai.models.list()} == {*made, "ops/echo"}
    for name in made:
        one = await talk.anthropic.models.retrieve(name)
        assert (one.id, one.display_name, one.max_tokens) == (name, name, 1000)
    with pytest.raises(anthropic.NotFoundError) as missing:
        await talk.anthropic.models.retrieve("none")
    assert missing.value.error_code == "model_not_found"
    with pytest.raises(anthropic.BadRequestError, match="limit"):
        await talk.anthropic.models.list(limit=0)


# Errors -----------------------------------------------------------------------------------


async def test_errors_are_the_sdks_own_exceptions(talk: Talk) -> None:
    ok, gemini = await talk.model("compatible", "ok"), await talk.model("gemini", "ok")
    with pytest.raises(anthropic.NotFoundError) as missing:
        await talk.message("none")
    assert missing.value.error_code == "model_not_found"
    with pytest.raises(anthropic.BadRequestError, match=r"messages\.0\.content\.0\.type"):
        await talk.message(ok, [{"role": "user", "content": [{"text": "hi"}]}])
    search: Any = {"type": "web_search_20250305", "name": "web_search"}
    with pytest.raises(anthropic.BadRequestError, match="web_search") as refused:
        await talk.message(gemini, tools=[search])
    assert refused.value.error_code == "not_carried"
    with pytest.raises(openai.BadRequestError) as kept:
        await talk.response(ok, previous_response_id="resp_1")
    assert kept.value.code == "not_kept"
    with pytest.raises(openai.NotFoundError):
        await talk.response("none")
    limited = await talk.model("compatible", "429")
    with pytest.raises(anthropic.RateLimitError):
        await talk.message(limited)
    with pytest.raises(openai.RateLimitError):
        await talk.response(limited)
    stranger = anthropic.AsyncAnthropic(
        base_url=talk.stage.url, api_key="sk_ops_wrong", max_retries=0
    )
    async with stranger:
        with pytest.raises(anthropic.AuthenticationError) as unknown:
            await stranger.messages.create(model=ok, max_tokens=9, messages=ASKED)
    assert unknown.value.type == "authentication_error"
    assert unknown.value.request_id


async def test_a_provider_that_breaks_off_breaks_the_clients_stream_off(talk: Talk) -> None:
    for behaviour in ("error-in-stream", "truncate"):
        model = await talk.model("compatible", behaviour)
        with pytest.raises(anthropic.APIStatusError, match="broke"):
            await talk.streamed(model)
        with pytest.raises(openai.APIError, match="broke"):
            await talk.streamed_response(model)


async def test_refusals_and_maxima_end_as_each_dialect_says(talk: Talk) -> None:
    refusal = await talk.model("compatible", "refusal")
    assert (await talk.streamed(refusal)).stop_reason == "refusal"
    response = await talk.streamed_response(refusal)
    assert response.output[0].content[0].type == "refusal"
    long = await talk.model("compatible", "ok?out=3000")
    assert (await talk.message(long)).stop_reason == "max_tokens"
    cut = await talk.response(long, max_output_tokens=100)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
