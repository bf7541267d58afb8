"""OpenAI's Responses as a client speaks them."""

from collections.abc import Mapping
from typing import Any

import orjson

from proxy.dialects import responses_request
from proxy.dialects.conversation import Conversation
from proxy.dialects.responses_answer import ResponsesWriter
from proxy.errors import OpsError


class Responses:
    name = "responses"

    def read(self, fields: Mapping[str, Any]) -> Conversation:
        return responses_request.read(fields)

    def writer(self, rid: str, model: str, fields: Mapping[str, Any]) -> ResponsesWriter:
        return ResponsesWriter(rid, model, fields)

    def error(self, problem: OpsError, rid: str) -> bytes:
        return orjson.dumps({"error": problem.shape(rid)})
