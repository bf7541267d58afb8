"""What OpenAI's dialect has beside conversations, and ranking as Cohere has it, for the fake
provider: answered whole, charged for what comes in. Pure.
"""

import base64
import struct
from collections.abc import Mapping
from typing import Any

from bench.ask import (
    CHOICES_MAX,
    Ask,
    BadRequest,
    Error,
    Events,
    Fields,
    model_of,
    number,
    object_of,
)
from bench.modes import Mode
from bench.openai_wire import CREATED, OpenAIWire
from bench.plan import Costs
from bench.seen import Seen

INPUTS_MAX = 2048
VECTOR = (0.25, -0.5, 0.125, 1.0)  # numbers that base64 of float32 holds exactly
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class PlainWire:
    """An answer without a stream; errors are OpenAI's."""

    stream_type = "application/json"
    end_mark = garbage = b""

    def error(self, error: Error) -> Fields:
        return OpenAIWire().error(error)

    def error_event(self, error: Error) -> bytes:
        return b""

    def events(self, ask: Ask, mode: Mode, costs: Costs) -> Events:
        raise BadRequest("This is not streamed here.", "stream")


class EmbeddingsWire(PlainWire):
    def read(self, request: Seen) -> Ask:
        """What comes out costs nothing, so there is none of it."""
        fields = object_of(request.body)
        form = fields.get("encoding_format", "float")
        if form not in ("float", "base64"):
            raise BadRequest("Invalid 'encoding_format'.", "encoding_format")
        count = _inputs(fields)
        return Ask(model_of(fields), choices=count, tokens_max=0, form=str(form), wire="embeddings")

    def body(self, ask: Ask, mode: Mode, content: str, costs: Costs) -> Fields:
        packed = base64.b64encode(struct.pack(f"<{len(VECTOR)}f", *VECTOR)).decode()
        vector = packed if ask.form == "base64" else list(VECTOR)
        rows = [
            {"object": "embedding", "index": i, "embedding": vector} for i in range(ask.choices)
        ]
        return {"object": "list", "data": rows, "model": ask.model, **_usage(mode, costs)}


class ModerationsWire(PlainWire):
    def read(self, request: Seen) -> Ask:
        fields = object_of(request.body)
        count = _inputs(fields)
        return Ask(model_of(fields), choices=count, tokens_max=0, wire="moderations")

    def body(self, ask: Ask, mode: Mode, content: str, costs: Costs) -> Fields:
        row: Mapping[str, Any] = {
            "flagged": False,
            "categories": {"violence": False},
            "category_scores": {"violence": 0.0},
        }
        return {"id": "modr-mock", "model": ask.model, "results": [row] * ask.choices}


class RerankWire(PlainWire):
    def read(self, request: Seen) -> Ask:
        fields = object_of(request.body)
        documents = fields.get("documents")
        if not isinstance(documents, list) or not documents:
            raise BadRequest("documents: must not be empty", "documents")
        if not isinstance(fields.get("query"), str):
            raise BadRequest("query: must be a text", "query")
        most = min(number(fields, "top_n") or len(documents), len(documents))
        return Ask(model_of(fields), choices=most, tokens_max=0, wire="rerank")

    def body(self, ask: Ask, mode: Mode, content: str, costs: Costs) -> Fields:
        rows = [{"index": i, "relevance_score": 1.0 / (i + 1)} for i in range(ask.choices)]
        units = {} if mode.behaviour == "nousage" else {"billed_units": {"search_units": 1}}
        return {"id": "rerank-mock", "results": rows, "meta": units}


class ImagesWire(PlainWire):
    def read(self, request: Seen) -> Ask:
        fields = object_of(request.body)
        if not isinstance(fields.get("prompt"), str):
            raise BadRequest("Missing required parameter: 'prompt'.", "prompt")
        form = "url" if fields.get("response_format") == "url" else "b64_json"
        count = number(fields, "n", CHOICES_MAX) or 1
        return Ask(model_of(fields), choices=count, form=form, wire="images")

    def body(self, ask: Ask, mode: Mode, content: str, costs: Costs) -> Fields:
        made = "https://images.invalid/mock.png" if ask.form == "url" else PIXEL
        usage = {
            "input_tokens": costs.prompt,
            "output_tokens": costs.completion,
            "total_tokens": costs.prompt + costs.completion,
            "input_tokens_details": {"text_tokens": costs.prompt, "image_tokens": 0},
        }
        told = {} if mode.behaviour == "nousage" else {"usage": usage}
        return {"created": CREATED, "data": [{ask.form: made}] * ask.choices, **told}


def _inputs(fields: Fields) -> int:
    """How many there are: texts, or lists of tokens; one text is one."""
    given = fields.get("input")
    if isinstance(given, str) and given:
        return 1
    if isinstance(given, list) and 0 < len(given) <= INPUTS_MAX:
        return 1 if isinstance(given[0], int) else len(given)
    raise BadRequest("'$.input' is invalid.", "input")


def _usage(mode: Mode, costs: Costs) -> Fields:
    if mode.behaviour == "nousage":
        return {}
    return {"usage": {"prompt_tokens": costs.prompt, "total_tokens": costs.prompt}}
