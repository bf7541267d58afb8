"""OpenAI's chat completions, as clients speak it."""

from collections.abc import Mapping
from typing import Any

import orjson

from proxy.dialects import chat_request
from proxy.dialects.base import Writer
from proxy.dialects.chat_writer import ChatWriter, error_of
from proxy.dialects.conversation import Conversation
from proxy.errors import OpsError


class Chat:
    name = "chat"

    def read(self, fields: Mapping[str, Any]) -> Conversation:
        return chat_request.read(fields)

    def writer(self, rid: str, model: str, fields: Mapping[str, Any]) -> Writer:
        options = fields.get("stream_options")
        wants_usage = isinstance(options, dict) and options.get("include_usage") is True
        return ChatWriter(rid, model, wants_usage)

    def error(self, problem: OpsError, rid: str) -> bytes:
        return orjson.dumps(error_of(problem, rid))
