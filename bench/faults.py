"""From an Ask and its Mode to a Plan: the good answer, then the one fault put into it. Pure."""

from dataclasses import replace

import orjson

from bench.ask import Ask, Error, content_of, costs_of
from bench.modes import Mode
from bench.openai_wire import CREATED
from bench.plan import LAST_CHUNK, Finale, Plan, chunk, head, json_plan
from bench.wires import WIRES

JSON = ("content-type", "application/json")
REDIRECTED = "/redirected/v1/chat/completions"

_ERRORS = {
    400: (
        "Invalid value: the fake provider was asked to refuse this.",
        "invalid_request_error",
        "invalid_value",
    ),
    403: ("Your organization may not use this model.", "permission_error", "permission_denied"),
    404: (
        "The model does not exist or you do not have access to it.",
        "invalid_request_error",
        "model_not_found",
    ),
    429: (
        "Rate limit reached for requests. Please try again in 1s.",
        "requests",
        "rate_limit_exceeded",
    ),
    503: (
        "The engine is currently overloaded, please try again later.",
        "server_error",
        "overloaded",
    ),
}
_OTHER_ERROR = ("The server had an error while processing your request.", "server_error", None)
_QUOTA = "You exceeded your current quota, please check your plan and billing details."
_BROKEN_JSON = b'<html><body>{"id": "chatcmpl-broken", "choi'


def plan_for(ask: Ask, mode: Mode, content: str | None = None) -> Plan:
    """How the request is answered; `content` replaces the mode's own text."""
    if mode.status != 200:
        return _refusal(ask, mode)
    special = {
        "quota": _quota,
        "redirect": _redirect,
        "close": _silent,
        "reset": _silent,
        "hang": _silent,
    }
    if mode.behaviour in special and not mode.at:
        return special[mode.behaviour](ask, mode)
    text = content_of(mode) if content is None else content
    return _stream(ask, mode, text) if ask.stream else _plain(ask, mode, text)


def wrong_key(ask: Ask, key: str) -> Plan:
    """401 as OpenAI writes it, but with the whole key in it: who hands it on has leaked it."""
    message = (
        f"Incorrect API key provided: {key}. You can find your API key in your account settings."
    )
    error = Error(401, message, "authentication_error", None, "invalid_api_key")
    return json_plan(401, WIRES[ask.wire].error(error))


def model_list(names: tuple[str, ...]) -> Plan:
    rows = [
        {"id": name, "object": "model", "created": CREATED, "owned_by": "mock"} for name in names
    ]
    return json_plan(200, {"object": "list", "data": rows})


def model_row(name: str) -> Plan:
    return json_plan(200, {"id": name, "object": "model", "created": CREATED, "owned_by": "mock"})


def _refusal(ask: Ask, mode: Mode) -> Plan:
    message, kind, code = _ERRORS.get(mode.status, _OTHER_ERROR)
    wait = mode["retry_after"] or (1 if mode.status == 429 else 0)
    headers = (("retry-after", str(wait)),) if wait else ()
    body = WIRES[ask.wire].error(Error(mode.status, message, kind, None, code, wait))
    return json_plan(mode.status, body, *headers, latency_s=mode["latency_ms"] / 1000)


def _quota(ask: Ask, mode: Mode) -> Plan:
    error = Error(429, _QUOTA, "insufficient_quota", None, "insufficient_quota")
    return json_plan(429, WIRES[ask.wire].error(error))


def _redirect(ask: Ask, mode: Mode) -> Plan:
    return Plan(head=head(307, ("location", REDIRECTED), length=0))


def _silent(ask: Ask, mode: Mode) -> Plan:
    finale = {"close": Finale.CLOSE, "reset": Finale.RESET, "hang": Finale.HANG}[mode.behaviour]
    return Plan(finale=finale, latency_s=mode["latency_ms"] / 1000)


_FINALES = {
    "truncate": Finale.CLOSE,
    "close": Finale.CLOSE,
    "reset": Finale.RESET,
    "hang": Finale.HANG,
    "bomb": Finale.ENDLESS,
}


def _stream(ask: Ask, mode: Mode, content: str) -> Plan:
    costs = costs_of(ask, mode)
    wire = WIRES[ask.wire]
    events = wire.events(ask, mode, costs)
    opening, pieces = events.opening(), events.pieces(content)
    mark = b"" if mode.behaviour == "nodone" else wire.end_mark
    if mode.behaviour == "lingers":
        pieces = (*pieces, events.ending())
    good = Plan(
        head=head(200, ("content-type", wire.stream_type), ("cache-control", "no-cache")),
        opening=opening,
        pieces=pieces,
        ending=events.ending() + mark + LAST_CHUNK,
        latency_s=mode["latency_ms"] / 1000,
        piece_s=mode["chunk_ms"] / 1000,
        costs=replace(costs, pieces=len(pieces)),
    )
    return _with_fault(good, mode, _broken_ending(ask, mode))


def _broken_ending(ask: Ask, mode: Mode) -> bytes:
    wire = WIRES[ask.wire]
    if mode.behaviour == "error-in-stream":
        return wire.error_event(_other_error()) + LAST_CHUNK
    return wire.garbage + wire.end_mark + LAST_CHUNK


def _other_error() -> Error:
    message, kind, code = _OTHER_ERROR
    return Error(500, message, kind, None, code)


def _with_fault(good: Plan, mode: Mode, broken_ending: bytes) -> Plan:
    """The same stream with its fault after `at` pieces, billed for those."""
    assert good.costs is not None
    cut = replace(good, pieces=good.pieces[: mode.at], costs=replace(good.costs, end="cut"))
    if mode.behaviour == "garbage":
        return replace(cut, opening=good.opening if mode.at else b"", ending=broken_ending)
    if mode.behaviour == "error-in-stream":
        return replace(cut, ending=broken_ending)
    if mode.behaviour == "bomb":
        return replace(good, ending=b"", finale=Finale.ENDLESS)
    if mode.behaviour == "lingers":
        return replace(good, ending=b"", finale=Finale.HANG)
    if mode.behaviour in _FINALES:
        return replace(cut, ending=b"", finale=_FINALES[mode.behaviour])
    return good


def _plain(ask: Ask, mode: Mode, content: str) -> Plan:
    """A plain answer is one piece, its body; a fault after a piece: half of the body was sent."""
    costs = costs_of(ask, mode)
    wire = WIRES[ask.wire]
    body = orjson.dumps(wire.body(ask, mode, content, costs))
    latency_s = mode["latency_ms"] / 1000
    match mode.behaviour:
        case "garbage":
            return Plan(
                head(200, JSON, length=len(_BROKEN_JSON)), ending=_BROKEN_JSON, latency_s=latency_s
            )
        case "error-in-stream":
            return json_plan(200, wire.error(_other_error()), latency_s=latency_s)
        case "bomb":
            opening, filler = chunk(b'{"id": "'), chunk(b"a" * 16_384)
            start = head(200, JSON)
            return Plan(start, opening, (filler,), b"", Finale.ENDLESS, latency_s, costs=costs)
        case name if name in _FINALES:
            start = head(200, JSON, length=len(body))
            half, cut = (body[: len(body) // 2],), replace(costs, end="cut")
            return Plan(start, b"", half, b"", _FINALES[name], latency_s, costs=cut)
    return Plan(head(200, JSON, length=len(body)), ending=body, latency_s=latency_s, costs=costs)
