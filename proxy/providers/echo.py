"""The built-in provider `ops/echo`: repeats what it is told, without a network or a key.

It takes and gives the same bytes as a provider behind HTTP, so that keys, credits, streaming and
tools can be tried within a minute of the installation.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import islice
from typing import Any

import orjson

_pieces = re.compile(r"\s*(?:\w{1,8}|[^\w\s])|\s+")
PIECES_MAX = 4_096  # tokens of an answer; the built-in model is sold with this maximum
JSON = ((b"content-type", b"application/json"),)
SSE = ((b"content-type", b"text/event-stream; charset=utf-8"),)


class EchoAnswer:
    """The same face as an answer from the network: status, headers, chunks."""

    def __init__(self, request: bytes, rid: str, delay_ms: int) -> None:
        fields = orjson.loads(request)
        self.status = 200
        self.headers = SSE if fields.get("stream") else JSON
        self._chunks = (
            _stream(fields, rid, delay_ms) if fields.get("stream") else _plain(fields, rid)
        )

    async def read(self) -> bytes | None:
        return await anext(self._chunks, None)

    def close(self) -> None:
        """Nothing to close: there is no connection."""


def token_count(text: str) -> int:
    return sum(1 for _ in _pieces.finditer(text))


async def _plain(fields: Mapping[str, Any], rid: str) -> AsyncIterator[bytes]:
    message, finish, usage = _answer(fields)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    yield orjson.dumps(
        {**_head(fields, rid, "chat.completion"), "choices": [choice], "usage": usage}
    )


async def _stream(fields: Mapping[str, Any], rid: str, delay_ms: int) -> AsyncIterator[bytes]:
    message, finish, usage = _answer(fields)
    head = _head(fields, rid, "chat.completion.chunk")
    wants_usage = bool((fields.get("stream_options") or {}).get("include_usage"))
    if wants_usage:
        head["usage"] = None
    for delta in _deltas(message):
        yield _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        await asyncio.sleep(delay_ms / 1000)
    yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if wants_usage:
        yield _event({**head, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _answer(fields: Mapping[str, Any]) -> tuple[dict[str, Any], str, dict[str, int]]:
    """The message, why it ended, and what it used."""
    messages = [m for m in fields.get("messages") or [] if isinstance(m, dict)]
    prompt = sum(token_count(_text(m)) for m in messages)
    tool = _wanted_tool(fields, messages)
    if tool is not None:
        arguments = orjson.dumps(_example(tool.get("parameters"))).decode()
        call = {"name": tool["name"], "arguments": arguments}
        calls = [{"id": "call_echo", "type": "function", "function": call}]
        message = {"role": "assistant", "content": None, "tool_calls": calls}
        return message, "tool_calls", _usage(prompt, token_count(arguments) + 1)
    text, finish = (_text(messages[-1]) if messages else "") or "…", "stop"
    asked = fields.get("max_completion_tokens") or fields.get("max_tokens")
    limit = min(asked, PIECES_MAX) if isinstance(asked, int) else PIECES_MAX
    pieces = [found[0] for found in islice(_pieces.finditer(text), limit + 1)]
    if len(pieces) > limit:
        pieces, finish = pieces[:limit], "length"
    message = {"role": "assistant", "content": "".join(pieces), "refusal": None}
    return message, finish, _usage(prompt, len(pieces))


def _deltas(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if message["content"] is not None:
        yield {"role": "assistant", "content": ""}
        for piece in _pieces.findall(message["content"]):
            yield {"content": piece}
        return
    call = message["tool_calls"][0]
    function = {"name": call["function"]["name"], "arguments": ""}
    yield {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"index": 0, **call, "function": function}],
    }
    for piece in _pieces.findall(call["function"]["arguments"]):
        yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


def _wanted_tool(
    fields: Mapping[str, Any], messages: list[dict[str, Any]]
) -> dict[str, Any] | None:
    """The tool that must be called, or that the last message names; none after a tool's result."""
    tools = _tools(fields.get("tools"))
    choice = fields.get("tool_choice", "auto")
    if not tools or choice == "none" or (messages and messages[-1].get("role") == "tool"):
        return None
    if isinstance(choice, dict):
        wanted = choice.get("function")
        name = wanted.get("name") if isinstance(wanted, dict) else None
        return next((t for t in tools if t["name"] == name), None)
    named = _text(messages[-1]) if messages else ""
    return next(
        (t for t in tools if t["name"] in named), tools[0] if choice == "required" else None
    )


def _tools(rows: Any) -> list[dict[str, Any]]:
    """The functions among the tools; what has no name cannot be called."""
    found = (
        [t.get("function") for t in rows if isinstance(t, dict)] if isinstance(rows, list) else []
    )
    return [
        f for f in found if isinstance(f, dict) and isinstance(f.get("name"), str) and f["name"]
    ]


def _example(schema: Any) -> Any:
    """A small value that fits a JSON schema."""
    if not isinstance(schema, dict):
        return {}
    options = schema.get("enum")
    if isinstance(options, list) and options:
        return options[0]
    kind = schema.get("type", "object")
    if kind == "object":
        properties = schema.get("properties")
        found = properties.items() if isinstance(properties, dict) else ()
        return {name: _example(part) for name, part in found}
    return {"string": "echo", "integer": 1, "number": 1.5, "boolean": True, "array": []}.get(
        str(kind)
    )


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(p.get("text", "")) for p in parts if isinstance(p, dict))


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _head(fields: Mapping[str, Any], rid: str, kind: str) -> dict[str, Any]:
    created = int(time.time())
    return {
        "id": f"chatcmpl-{rid}",
        "object": kind,
        "created": created,
        "model": fields.get("model"),
    }


def _event(chunk: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"
