"""What Gemini answers: frames of a stream and whole answers have one shape. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from proxy.dialects.events import (
    Began,
    Counted,
    Event,
    Failed,
    Finished,
    Reason,
    RefusalPiece,
    TextPiece,
    ThinkingPiece,
    ThinkingSigned,
    ToolBegan,
    ToolPiece,
)
from proxy.providers.fields import (
    UNREADABLE,
    Object,
    as_json,
    count,
    inner,
    loaded,
    rows,
    text,
    usage_of,
)
from proxy.providers.minted import minted
from proxy.types import Usage

REASONS: Mapping[str, Reason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(
        (
            *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
            *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "MODEL_ARMOR"),
        ),
        "content_filter",
    ),
}
#: The model failed: to call this an end would be a lie.
FAILURES = frozenset(
    {
        *("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"),
        *("MISSING_THOUGHT_SIGNATURE", "MALFORMED_RESPONSE", "NO_IMAGE", "IMAGE_OTHER", "OTHER"),
    }
)
#: What is counted apart from text.
KINDS = {"AUDIO": "audio", "IMAGE": "image", "VIDEO": "video"}
IMAGE = Failed("not_carried", "The model answered with data, for which there is no place here.")


def read_usage(told: Object) -> Usage | None:
    """Cached tokens lie inside the prompt; thoughts, and what tools put into it, lie outside."""
    prompt, went = count(told, "promptTokenCount"), count(told, "candidatesTokenCount")
    thought = count(told, "thoughtsTokenCount")
    if prompt is None and went is None and thought is None:
        return None
    tokens = _came_in(told, prompt or 0, _kinds(told, "promptTokensDetails"))
    by_tools = told.get("toolUsePromptTokenCount")
    if by_tools:
        tokens["input"] += count(told, "toolUsePromptTokenCount") or 0
    tokens["output"] = went or 0
    tokens["reasoning"] = thought or 0
    of_output = _kinds(told, "candidatesTokensDetails")
    if of_output:
        out = _split(went or 0, of_output)
        tokens["output"] = out.pop("rest")
        tokens |= {f"{name}_out": number for name, number in out.items()}
    return usage_of(tokens, told, count(told, "totalTokenCount"))


def _came_in(told: Object, prompt: int, kinds: Mapping[str, int]) -> dict[str, int]:
    cached = min(count(told, "cachedContentTokenCount") or 0, prompt)
    if not kinds:
        return {"input": prompt - cached, "cache_read": cached}
    of_cache = _split(cached, _kinds(told, "cacheTokensDetails"))
    fresh = {name: max(number - of_cache.get(name, 0), 0) for name, number in kinds.items()}
    split = _split(prompt - cached, fresh)
    return {
        "input": split.pop("rest"),
        **{f"{name}_in": number for name, number in split.items()},
        "cache_read": of_cache.pop("rest") + of_cache.pop("video", 0),
        **{f"cache_{name}_in": number for name, number in of_cache.items()},
    }


def _kinds(told: Object, name: str) -> dict[str, int]:
    """What is not text, by its kind."""
    found: dict[str, int] = {}
    for row in rows(told, name):
        kind = KINDS.get(text(row, "modality"))
        if kind is not None:
            found[kind] = found.get(kind, 0) + (count(row, "tokenCount") or 0)
    return dict(sorted(found.items()))


def _split(whole: int, kinds: Mapping[str, int]) -> dict[str, int]:
    """Disjoint parts that add up to the whole."""
    found = {}
    for name, number in kinds.items():
        found[name] = min(number, whole)
        whole -= found[name]
    return {**found, "rest": whole}


def whole_answer(answer: bytes) -> Sequence[Event]:
    frame = loaded(answer)
    if not frame.keys() & {"candidates", "promptFeedback", "error"}:
        return (UNREADABLE,)
    return tuple(AnswerReader().feed(answer))


class AnswerReader:
    """Frames with more parts; each tells the usage until then."""

    __slots__ = ("_calls", "_is_begun", "_is_finished")

    def __init__(self) -> None:
        self._calls = 0
        self._is_begun = self._is_finished = False

    def feed(self, data: bytes) -> Iterable[Event]:
        frame = loaded(data)
        found: list[Event] = []
        if not self._is_begun and (frame.get("responseId") or frame.get("candidates")):
            self._is_begun = True
            found.append(Began(text(frame, "responseId"), text(frame, "modelVersion")))
        # more than one is never asked for
        candidate = next(iter(rows(frame, "candidates")), {})
        for part in rows(inner(candidate, "content"), "parts"):
            found += self._part(part)
        usage = read_usage(inner(frame, "usageMetadata"))
        if usage is not None:
            found.append(Counted(usage))
        if "error" in frame:
            error = inner(frame, "error")
            found.append(Failed(text(error, "status") or "error", text(error, "message")))
        elif not self._is_finished:
            found += self._end(candidate, inner(frame, "promptFeedback"))
        return found

    def end(self) -> Iterable[Event]:
        """A stream that ends without its reason was broken off."""
        return ()

    def _part(self, part: Object) -> Iterator[Event]:
        signature = text(part, "thoughtSignature")
        call = inner(part, "functionCall")
        if call:
            id = text(call, "id") or minted()
            yield ToolBegan(self._calls, id, text(call, "name"), signature)
            yield ToolPiece(self._calls, as_json(inner(call, "args")))
            self._calls += 1
            return
        said = text(part, "text")
        if said:
            yield ThinkingPiece(said) if part.get("thought") is True else TextPiece(said)
        elif "inlineData" in part:
            yield IMAGE
        if signature:
            yield ThinkingSigned(signature=signature)

    def _end(self, candidate: Object, feedback: Object) -> Iterator[Event]:
        reason, blocked = text(candidate, "finishReason"), text(feedback, "blockReason")
        if not reason and not blocked:
            return
        self._is_finished = True
        said = text(candidate, "finishMessage") or text(feedback, "blockReasonMessage")
        if reason in FAILURES:
            yield Failed(reason, said or f"The model ended with {reason}.")
            return
        kind = REASONS.get(reason, "stop") if reason else "content_filter"
        if kind == "content_filter" and said:
            yield RefusalPiece(said)
        if kind == "stop" and self._calls:
            kind = "tool_calls"  # its own reason is the same for both
        yield Finished(kind, native=reason or blocked)
