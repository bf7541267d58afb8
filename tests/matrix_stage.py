"""What the matrix of translations asks for, in each client's dialect, and how its answers are read
there. Texts that must arrive begin with MARK.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import orjson

CLIENTS = ("chat", "responses", "messages")
PROVIDERS = ("openai", "anthropic", "gemini", "cohere", "ollama")
ADAPTERS = {**{name: name for name in PROVIDERS}, "openai": "compatible"}
PATHS = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}
IMAGE = "TUFSSw=="  # base64
PHOTO = "https://example.com/MARK.png"
SCHEMA = {
    "type": "object",
    "properties": {"MARK_field": {"type": "string"}},
    "required": ["MARK_field"],
    "additionalProperties": False,
}
ARGUMENTS = '{"place":"MARK-argument"}'
Body = dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """What one side says, in no dialect."""

    role: str
    text: str = ""
    image: str = ""  # base64, or an address
    calls: tuple[str, ...] = ()  # their ids
    result_of: str = ""


@dataclass(frozen=True)
class Feature:
    name: str
    behaviour: str = "ok"
    turns: tuple[Turn, ...] = (Turn("user", "MARK-user"),)
    system: str = ""
    tools: bool = False
    one_call: bool = False
    schema: bool = False
    stop: str = ""
    thinks: bool = False
    marks: tuple[str, ...] = ("MARK-user",)
    without: tuple[str, ...] = ()  # clients that have no word for it


_CALLED = Turn("assistant", "", calls=("call_1",))
FEATURES = (
    Feature("text"),
    Feature("system", system="MARK-system", marks=("MARK-user", "MARK-system")),
    Feature("tools", "tools", tools=True, marks=("MARK_tool", "MARK_field")),
    Feature("one call at a time", "tools", tools=True, one_call=True, marks=("MARK_tool",)),
    Feature(
        "tool results",
        turns=(
            Turn("user", "MARK-user"),
            _CALLED,
            Turn("tool", "MARK-result", result_of="call_1"),
        ),
        tools=True,
        marks=("MARK-user", "MARK-argument", "MARK-result"),
    ),
    Feature(
        "parallel results",
        turns=(
            Turn("user", "MARK-user"),
            Turn("assistant", "", calls=("call_1", "call_2")),
            Turn("tool", "MARK-first", result_of="call_1"),
            Turn("tool", "MARK-second", result_of="call_2"),
        ),
        tools=True,
        marks=("MARK-first", "MARK-second"),
    ),
    Feature(
        "text and tool in one turn",
        turns=(
            Turn("user", "MARK-user"),
            Turn("assistant", "MARK-said", calls=("call_1",)),
            Turn("tool", "MARK-result", result_of="call_1"),
            Turn("user", "MARK-beside"),
        ),
        tools=True,
        marks=("MARK-said", "MARK-argument", "MARK-result", "MARK-beside"),
    ),
    Feature("thinking", "thinking", thinks=True),
    Feature("image", turns=(Turn("user", "MARK-user", IMAGE),), marks=("MARK-user", IMAGE)),
    Feature("image by address", turns=(Turn("user", "MARK-user", PHOTO),), marks=(PHOTO,)),
    Feature("JSON schema", schema=True, marks=("MARK_field",)),
    Feature("stop", stop="MARK-stop", marks=("MARK-stop",), without=("responses",)),
    Feature("refusal", "refusal"),
    Feature("long stream", "ok?chunks=2000&bytes=40000"),
)


# Requests -----------------------------------------------------------------------------


def _chat(of: Feature) -> Body:
    messages: list[Body] = [{"role": "system", "content": of.system}] if of.system else []
    for turn in of.turns:
        if turn.role == "tool":
            row: Body = {"role": "tool", "tool_call_id": turn.result_of, "content": turn.text}
        else:
            row = {"role": turn.role, "content": turn.text or None}
        if turn.image:
            url = turn.image if "://" in turn.image else f"data:image/png;base64,{turn.image}"
            image = {"type": "image_url", "image_url": {"url": url}}
            row["content"] = [{"type": "text", "text": turn.text}, image]
        if turn.calls:
            function = {"name": "MARK_tool", "arguments": ARGUMENTS}
            calls = [{"id": id, "type": "function", "function": function} for id in turn.calls]
            row["tool_calls"] = calls
        messages.append(row)
    body: Body = {"messages": messages}
    if of.tools:
        tool = {"name": "MARK_tool", "description": "d", "parameters": SCHEMA}
        body["tools"] = [{"type": "function", "function": tool}]
    if of.one_call:
        body["parallel_tool_calls"] = False
    if of.schema:
        shape = {"name": "n", "schema": SCHEMA, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": shape}
    if of.stop:
        body["stop"] = [of.stop]
    if of.thinks:
        body["reasoning_effort"] = "low"
    return body


def _messages(of: Feature) -> Body:
    messages: list[Body] = []
    for turn in of.turns:
        content: list[Body] = []
        if turn.role == "tool":
            result = {"type": "tool_result", "tool_use_id": turn.result_of, "content": turn.text}
            content.append(result)
        elif turn.text:
            content.append({"type": "text", "text": turn.text})
        if turn.image:
            kind = {"type": "base64", "media_type": "image/png", "data": turn.image}
            source = {"type": "url", "url": turn.image} if "://" in turn.image else kind
            content.append({"type": "image", "source": source})
        for id in turn.calls:
            call = {"id": id, "name": "MARK_tool", "input": orjson.loads(ARGUMENTS)}
            content.append({"type": "tool_use", **call})
        role = "user" if turn.role == "tool" else turn.role
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += content
        else:
            messages.append({"role": role, "content": content})
    body: Body = {"messages": messages, "max_tokens": 4000}
    if of.system:
        body["system"] = of.system
    if of.tools:
        tool = {"name": "MARK_tool", "description": "d", "input_schema": SCHEMA}
        body["tools"] = [tool]
    if of.one_call:
        body["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": True}
    if of.schema:
        body["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
    if of.stop:
        body["stop_sequences"] = [of.stop]
    if of.thinks:
        body["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    return body


def _responses(of: Feature) -> Body:
    items: list[Body] = []
    for turn in of.turns:
        if turn.role == "tool":
            kind = "function_call_output"
            items.append({"type": kind, "call_id": turn.result_of, "output": turn.text})
        elif turn.role == "assistant" and turn.text:
            said = {"type": "output_text", "text": turn.text, "annotations": []}
            items.append({"type": "message", "role": "assistant", "content": [said]})
        elif turn.role == "user":
            content: list[Body] = [{"type": "input_text", "text": turn.text}]
            if turn.image:
                url = turn.image if "://" in turn.image else f"data:image/png;base64,{turn.image}"
                content.append({"type": "input_image", "image_url": url, "detail": "auto"})
            items.append({"type": "message", "role": "user", "content": content})
        for id in turn.calls:
            call = {"call_id": id, "name": "MARK_tool", "arguments": ARGUMENTS}
            items.append({"type": "function_call", **call})
    body: Body = {"input": items, "store": False}
    if of.system:
        body["instructions"] = of.system
    if of.tools:
        tool = {"name": "MARK_tool", "description": "d", "parameters": SCHEMA, "strict": False}
        body["tools"] = [{"type": "function", **tool}]
    if of.one_call:
        body["parallel_tool_calls"] = False
    if of.schema:
        shape = {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}
        body["text"] = {"format": shape}
    if of.thinks:
        body["reasoning"] = {"effort": "low", "summary": "auto"}
        body["include"] = ["reasoning.encrypted_content"]
    return body


REQUESTS: Mapping[str, Callable[[Feature], Body]] = {
    "chat": _chat,
    "messages": _messages,
    "responses": _responses,
}


# Answers ------------------------------------------------------------------------------


@dataclass
class Heard:
    """What the client makes of an answer."""

    text: str = ""
    refusal: str = ""
    thought: str = ""
    proof: str = ""  # what has to go back with the thought
    calls: list[tuple[str, str, str]] = field(default_factory=list)  # id, name, arguments
    reason: str = ""
    tokens: tuple[int, int] = (0, 0)  # in, out


def events(body: bytes) -> list[Body]:
    found = []
    for event in body.decode().split("\n\n"):
        lines = [line[6:] for line in event.split("\n") if line.startswith("data: ")]
        if lines and lines[0] != "[DONE]":
            found.append(orjson.loads("\n".join(lines)))
    return found


def heard(client: str, answer: httpx2.Response, stream: bool) -> Heard:
    if not stream:
        return _WHOLE[client](answer.json())
    return _STREAMED[client](events(answer.content))


def _chat_whole(answer: Body) -> Heard:
    [choice] = answer["choices"]
    return _of_message(choice["message"], choice["finish_reason"], answer["usage"])


def _of_message(message: Body, reason: str, usage: Body) -> Heard:
    blocks = message.get("thinking_blocks") or [{}]
    calls = message.get("tool_calls") or ()
    return Heard(
        text=message.get("content") or "",
        refusal=message.get("refusal") or "",
        thought=message.get("reasoning_content") or "",
        proof=blocks[0].get("signature", ""),
        calls=[(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls],
        reason=reason,
        tokens=(usage["prompt_tokens"], usage["completion_tokens"]),
    )


def _chat_streamed(frames: Iterable[Body]) -> Heard:
    """Added up as clients add it up."""
    message: Body = {"tool_calls": []}
    reason, usage = "", {"prompt_tokens": 0, "completion_tokens": 0}
    for frame in frames:
        usage = frame.get("usage") or usage
        for choice in frame["choices"]:
            reason = choice["finish_reason"] or reason
            for name, value in choice["delta"].items():
                if name == "tool_calls":
                    _add_call(message["tool_calls"], value[0])
                elif name == "thinking_blocks":
                    message[name] = value
                elif name != "role" and value:
                    message[name] = message.get(name, "") + value
    return _of_message(message, reason, usage)


def _add_call(calls: list[Body], piece: Body) -> None:
    if piece["index"] == len(calls):
        calls.append({"id": piece["id"], "function": dict(piece["function"])})
    else:
        calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]


def _messages_whole(answer: Body) -> Heard:
    found = Heard(reason=answer["stop_reason"])
    found.refusal = (answer.get("stop_details") or {}).get("explanation") or ""
    usage = answer["usage"]
    cached = usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"]
    found.tokens = (usage["input_tokens"] + cached, usage["output_tokens"])
    for block in answer["content"]:
        kind = block["type"]
        if kind == "text":
            found.text += block["text"]
        elif kind == "thinking":
            found.thought += block["thinking"]
            found.proof = block["signature"]
        elif kind == "tool_use":
            arguments = orjson.dumps(block["input"]).decode()
            found.calls.append((block["id"], block["name"], arguments))
    return found


def _messages_streamed(frames: Iterable[Body]) -> Heard:
    message: Body = {}
    for frame in frames:
        kind = frame["type"]
        if kind == "message_start":
            message = frame["message"]
        elif kind == "content_block_start":
            assert frame["index"] == len(message["content"])
            message["content"].append({**frame["content_block"], "json": ""})
        elif kind == "content_block_delta":
            block, delta = message["content"][frame["index"]], frame["delta"]
            for name in ("text", "thinking", "signature"):
                block[name] = block.get(name, "") + delta.get(name, "")
            block["json"] += delta.get("partial_json", "")
        elif kind == "content_block_stop":
            block = message["content"][frame["index"]]
            if block["type"] == "tool_use":
                block["input"] = orjson.loads(block["json"] or "{}")
        elif kind == "message_delta":
            message |= frame["delta"]
            message["usage"] = {**message["usage"], **frame["usage"]}
        elif kind == "error":
            message["stop_reason"] = "error"
    return _messages_whole(message)


def _responses_whole(answer: Body) -> Heard:
    found = Heard(reason=answer["status"])
    usage = answer["usage"]
    found.tokens = (usage["input_tokens"], usage["output_tokens"])
    for item in answer["output"]:
        if item["type"] == "message":
            for part in item["content"]:
                found.text += part.get("text", "")
                found.refusal += part.get("refusal", "")
        elif item["type"] == "function_call":
            found.calls.append((item["call_id"], item["name"], item["arguments"]))
        elif item["type"] == "reasoning":
            found.thought += "".join(part["text"] for part in item["summary"])
            found.proof = item.get("encrypted_content") or ""
    return found


def _responses_streamed(frames: Iterable[Body]) -> Heard:
    """The pieces have to add up to what the last frame tells."""
    text, last = "", Body()
    for nth, frame in enumerate(frames):
        assert frame["sequence_number"] == nth
        if frame["type"] == "response.output_text.delta":
            text += frame["delta"]
        last = frame
    found = _responses_whole(last["response"])
    assert found.text == text
    return found


_WHOLE: Mapping[str, Callable[[Body], Heard]] = {
    "chat": _chat_whole,
    "messages": _messages_whole,
    "responses": _responses_whole,
}
_STREAMED: Mapping[str, Callable[[Iterable[Body]], Heard]] = {
    "chat": _chat_streamed,
    "messages": _messages_streamed,
    "responses": _responses_streamed,
}
