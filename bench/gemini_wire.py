"""Gemini's generateContent for the fake provider. Pure."""

import re
from typing import Any
from urllib.parse import unquote

import orjson

from bench.ask import (
    ARGUMENTS,
    SIGNATURE,
    THOUGHT,
    Ask,
    BadRequest,
    Error,
    Fields,
    listed,
    number,
    object_of,
    parts,
    reason_of,
)
from bench.modes import Mode
from bench.plan import Costs, chunk
from bench.seen import Seen

PATH = r"/v1beta/(?:models/)?(?P<model>[^:]{1,900}):(?P<verb>generateContent|streamGenerateContent)"
REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP"}
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
RETRY = "type.googleapis.com/google.rpc.RetryInfo"


class GeminiWire:
    stream_type = "text/event-stream"
    end_mark = b""
    garbage = chunk(b'data: {"candidates": [{"con\r\n\r\nnonsense\r\n\r\n')

    def read(self, request: Seen) -> Ask:
        found = re.fullmatch(PATH, request.path)
        assert found is not None
        fields = object_of(request.body)
        unknown = set(fields) - FIELDS
        if unknown:
            raise BadRequest(f'Invalid JSON payload received. Unknown name "{min(unknown)}"')
        _check_turns(listed(fields, "contents"))
        stream = found["verb"] == "streamGenerateContent"
        if stream and "alt=sse" not in request.query.split("&"):
            raise BadRequest("The fake provider streams as server-sent events alone: alt=sse")
        config = fields.get("generationConfig") or {}
        return Ask(
            unquote(found["model"]),
            stream,
            tokens_max=number(config, "maxOutputTokens"),
            tool=_first_tool(fields),
            wire="gemini",
        )

    def body(self, ask: Ask, mode: Mode, content: str, costs: Costs) -> Fields:
        parts: list[Fields] = [_THOUGHT] if mode.behaviour == "thinking" else []
        if mode.behaviour == "tools":
            parts += _calls(ask, mode)
        else:
            parts.append({"text": content, **_signed(mode)})
        return _frame(ask, mode, costs, parts, last=True)

    def events(self, ask: Ask, mode: Mode, costs: Costs) -> "GeminiEvents":
        return GeminiEvents(ask, mode, costs)

    def error(self, error: Error) -> Fields:
        details: list[Fields] = []
        if error.code == "invalid_api_key":
            details.append({"reason": "API_KEY_INVALID", "domain": "googleapis.com"})
        if error.retry_s:
            details.append({"@type": RETRY, "retryDelay": f"{error.retry_s}s"})
        if error.code == "insufficient_quota":
            details.append({"violations": [{"quotaId": "GenerateRequestsPerDayPerProject"}]})
        told = {"code": error.status, "message": error.message, "details": details}
        return {"error": {**told, "status": STATUSES.get(error.status, "UNKNOWN")}}

    def error_event(self, error: Error) -> bytes:
        return _event(self.error(error))


FIELDS = {
    *("contents", "systemInstruction", "tools", "toolConfig", "safetySettings"),
    *("generationConfig", "cachedContent"),
}


class GeminiEvents:
    """Frames of one shape; calls come whole, and every frame tells the counts until then."""

    def __init__(self, ask: Ask, mode: Mode, costs: Costs) -> None:
        self._ask, self._mode, self._costs = ask, mode, costs

    def opening(self) -> bytes:
        return self._made([_THOUGHT]) if self._mode.behaviour == "thinking" else b""

    def pieces(self, content: str) -> tuple[bytes, ...]:
        if self._mode.behaviour == "tools":
            return tuple(self._made([call]) for call in _calls(self._ask, self._mode))
        if self._mode.behaviour == "refusal":
            return (b"",)
        count = self._mode["chunks"]
        return tuple(
            self._made([{"text": part}], share=(nth, count))
            for nth, part in enumerate(parts(content, count), 1)
        )

    def ending(self) -> bytes:
        parts: list[Fields] = [{"text": "", **_signed(self._mode)}]
        return _event(_frame(self._ask, self._mode, self._costs, parts, last=True))

    def _made(self, parts: list[Fields], share: tuple[int, int] = (0, 1)) -> bytes:
        made = self._costs.completion * share[0] // share[1]
        return _event(_frame(self._ask, self._mode, self._costs, parts, made=made))


_THOUGHT: Fields = {"text": THOUGHT, "thought": True}


def _signed(mode: Mode) -> Fields:
    return {"thoughtSignature": SIGNATURE} if mode.behaviour == "thinking" else {}


def _calls(ask: Ask, mode: Mode) -> list[Fields]:
    """Without ids, and the first of them signed, as thinking models do."""
    calls: list[dict[str, Any]] = [
        {"functionCall": {"name": ask.tool, "args": orjson.loads(one)}} for one in ARGUMENTS
    ]
    calls[0]["thoughtSignature"] = SIGNATURE
    return [*calls]


def _frame(
    ask: Ask,
    mode: Mode,
    costs: Costs,
    parts: list[Fields],
    *,
    last: bool = False,
    made: int | None = None,
) -> Fields:
    found: dict[str, Any] = {"modelVersion": ask.model, "responseId": "mock0000000000000000"}
    if mode.behaviour != "nousage":
        found["usageMetadata"] = usage_of(costs, costs.completion if made is None else made)
    if mode.behaviour == "refusal":
        return {**found, "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
    content = {"role": "model", "parts": parts}
    candidate: dict[str, Any] = {"index": 0, "content": content}
    if last:
        candidate["finishReason"] = REASONS[reason_of(ask, mode)]
    return {"candidates": [candidate], **found}


def usage_of(costs: Costs, made: int) -> dict[str, Any]:
    """Cached tokens inside the prompt, thoughts outside of the candidates; no count is no 0."""
    thought = min(costs.reasoning, made)
    counts = {
        "promptTokenCount": costs.prompt,
        "cachedContentTokenCount": costs.cached,
        "candidatesTokenCount": made - thought,
        "thoughtsTokenCount": thought,
        "totalTokenCount": costs.prompt + made,
    }
    kept = ("promptTokenCount", "totalTokenCount")
    return {name: count for name, count in counts.items() if count or name in kept}


def _check_turns(contents: list[dict[str, Any]]) -> None:
    """As many results as calls, in the turn after them; a signature comes back as it was given."""
    calls = 0
    for content in contents:
        if content.get("role") not in ("user", "model"):
            raise BadRequest("Please use a valid role: user, model.")
        parts = content.get("parts")
        if not isinstance(parts, list) or not parts:
            raise BadRequest("* GenerateContentRequest.contents: contents.parts must not be empty.")
        if sum("functionResponse" in part for part in parts) != calls:
            raise BadRequest(
                "Please ensure that the number of function response parts is equal to the number"
                " of function call parts of the function call turn."
            )
        calls = sum("functionCall" in part for part in parts)
        signatures = {part["thoughtSignature"] for part in parts if "thoughtSignature" in part}
        if signatures - {SIGNATURE}:
            raise BadRequest("Thought signature is not valid.")


def _first_tool(fields: Fields) -> str:
    match fields.get("tools"):
        case [{"functionDeclarations": [{"name": str(name)}, *_]}, *_]:
            return name
    return "lookup"


def _event(frame: Fields) -> bytes:
    return chunk(b"data: " + orjson.dumps(frame) + b"\r\n\r\n")
