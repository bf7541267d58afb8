"""What holds for every provider's dialect: a value that is said changes what is sent, or is refused
by its name. The few that may be left out are named here, each with its reason.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.dialects.conversation import (
    Conversation,
    Media,
    Message,
    Part,
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
from proxy.errors import NotCarried
from proxy.providers.catalog import ADAPTERS
from tests.speech_stage import asked

NAMES = ("anthropic", "gemini", "cohere", "ollama")
TOOL = Tool("lookup", "Finds it", {"type": "object"})
CALL = ToolCall("a", "lookup", '{"b": 1}')
RESULT = ToolResult("a", "lookup", (Text("rain"),))
IMAGE = Media("image", "image/png", "aGk=")
SIGNED = Thinking("hm", "s1")
TURNS = (
    Message("user", (Text("hi"), IMAGE)),
    Message("assistant", (SIGNED, Text("so"), CALL)),
    Message("user", (RESULT, Text("and?"))),
)
BASE = asked(system=(Text("Be brief."),), messages=TURNS, tools=(TOOL,))
SCHEMA = {"type": "object", "properties": {"z": {"type": "string"}}}


def with_part(nth: int, old: Part, new: Part) -> Conversation:
    parts = tuple(new if part is old else part for part in TURNS[nth].parts)
    turn = dataclasses.replace(TURNS[nth], parts=parts)
    return dataclasses.replace(BASE, messages=(*TURNS[:nth], turn, *TURNS[nth + 1 :]))


def with_tool(**changes: Any) -> Conversation:
    return dataclasses.replace(BASE, tools=(dataclasses.replace(TOOL, **changes),))


def changed() -> Iterator[tuple[str, Conversation]]:
    """By the name of what is said anew."""
    whole: dict[str, Any] = {
        "system": (Text("Be long."),),
        "system.extra": (Text("Be brief.", {"citations": {"enabled": True}}),),
        "tools": (TOOL, Tool("now", "", {})),
        "output_max": 77,
        "stop": ("END",),
        "choices": 2,
        "user": "somebody",
        "others": {"unheard_of": 1},
        "others.deep": {"messages.0.unheard_of": True},
        "hints": {"prompt_cache_key": "k"},
        "shape": Shape(SCHEMA),
        "shape.any": Shape(),
        "messages.system": (*TURNS, Message("system", (Text("Now!"),))),
        "messages.name": (Message("user", (Text("hi"), IMAGE), "Ann"), *TURNS[1:]),
    }
    for name, value in whole.items():
        yield name, dataclasses.replace(BASE, **{name.partition(".")[0]: value})
    sampling: dict[str, Any] = {
        **{"temperature": 0.25, "top_p": 0.25, "top_k": 3, "seed": 0},
        **{"presence_penalty": 0.5, "frequency_penalty": 0.5},
    }
    for name, value in sampling.items():
        yield name, dataclasses.replace(BASE, sampling=Sampling(**{name: value}))
    for mode in ("none", "any"):
        choice = ToolChoice(mode)
        yield f"tool_choice.{mode}", dataclasses.replace(BASE, tool_choice=choice)
    for name, choice in {
        "tool_choice.tool": ToolChoice("tool", "lookup"),
        "tool_choice.parallel": ToolChoice(parallel=False),
    }.items():
        yield name, dataclasses.replace(BASE, tool_choice=choice)
    for name, reasoning in {
        "reasoning.effort": Reasoning("high"),
        "reasoning.tokens": Reasoning(tokens=2048),
        "reasoning.off": Reasoning(off=True),
        "reasoning.unknown": Reasoning("enormous"),
    }.items():
        yield name, dataclasses.replace(BASE, reasoning=reasoning)
    yield from _parts()


def _parts() -> Iterator[tuple[str, Conversation]]:
    tool: dict[str, Any] = {
        "name": "z",
        "description": "z",
        "schema": SCHEMA,
        "strict": True,
        "extra": {"z": 1},
    }
    for name, value in tool.items():
        yield f"tool.{name}", with_tool(**{name: value})
    call: dict[str, Any] = {
        "id": "z",
        "name": "z",
        "arguments": "{}",
        "signature": "z",
        "extra": {"z": 1},
    }
    for name, value in call.items():
        new = dataclasses.replace(CALL, **{name: value})
        yield f"call.{name}", with_part(1, CALL, new)
    result: dict[str, Any] = {"id": "z", "name": "z", "parts": (Text("z"),), "is_error": True}
    for name, value in (result | {"parts.image": (IMAGE,), "extra": {"z": 1}}).items():
        new_result = dataclasses.replace(RESULT, **{name.partition(".")[0]: value})
        yield f"result.{name}", with_part(2, RESULT, new_result)
    media: dict[str, Any] = {
        **{"kind": "audio", "media_type": "image/gif", "data": "eg==", "name": "z.png"},
        **{"detail": "low", "extra": {"z": 1}},
    }
    for name, value in media.items():
        new_image = dataclasses.replace(IMAGE, **{name: value})
        yield f"media.{name}", with_part(0, IMAGE, new_image)
    yield "media.file", with_part(0, IMAGE, Media("file", "application/pdf", "aGk="))
    yield "media.url", with_part(0, IMAGE, Media("image", url="https://h/a.png"))
    yield "media.file_id", with_part(0, IMAGE, Media("image", file_id="f"))
    yield "text", with_part(0, TURNS[0].parts[0], Text("ho"))
    yield "text.extra", with_part(0, TURNS[0].parts[0], Text("hi", {"z": 1}))
    yield "refusal", with_part(1, TURNS[1].parts[1], Refusal("no"))
    for name, value in {"text": "z", "signature": "z", "redacted": "z"}.items():
        new_thought = dataclasses.replace(SIGNED, **{name: value})
        yield f"thought.{name}", with_part(1, SIGNED, new_thought)


CHANGED = dict(changed())
#: What changes no answer, or is no news to that provider.
LEFT_OUT: dict[str, tuple[str, ...]] = {
    "hints": NAMES,
    "user": ("gemini", "cohere", "ollama"),  # for the books of who asks
    "media.name": NAMES,  # of an image; Anthropic is told a document's
    "media.kind": ("gemini",),  # the media type tells it
    "thought.signature": ("cohere", "ollama"),  # proves it to the provider that made it
    "call.signature": ("anthropic", "cohere", "ollama"),
    "result.name": ("anthropic", "cohere"),  # the call's id tells it
    "media.media_type": ("ollama",),  # the data tell it
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", CHANGED)
def test_nothing_is_dropped(name: str, what: str) -> None:
    speech = ADAPTERS[name].speech
    assert speech is not None
    told: dict[str, Any] = {"model": "gemini-3", "output_max": 4096, "stream": False}
    base = speech.write(BASE, **told)
    try:
        body = speech.write(CHANGED[what], **told)
    except NotCarried:
        return
    assert (body == base) == (name in LEFT_OUT.get(what, ()))


def test_every_value_of_a_conversation_is_changed_here() -> None:
    """A new field of the border has to be said to every provider, or refused."""
    said = {name.partition(".")[0] for name in CHANGED}
    fields = {field.name for field in dataclasses.fields(Conversation)} - {"sampling"}
    assert fields <= said
    assert {field.name for field in dataclasses.fields(Sampling)} <= said
    for kind, prefix in (
        (Tool, "tool"),
        (ToolCall, "call"),
        (ToolResult, "result"),
        (Media, "media"),
    ):
        names = {f"{prefix}.{field.name}" for field in dataclasses.fields(kind)}
        assert names <= set(CHANGED)
