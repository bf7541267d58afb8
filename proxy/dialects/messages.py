"""Anthropic's Messages as a client speaks them."""

from collections.abc import Mapping
from typing import Any

import orjson

from proxy.dialects import messages_request
from proxy.dialects.conversation import Conversation
from proxy.dialects.counting import CountText, by_bytes, input_tokens
from proxy.dialects.messages_answer import MessagesWriter, error
from proxy.errors import FieldMissing, OpsError


class Messages:
    name = "messages"

    def read(self, fields: Mapping[str, Any]) -> Conversation:
        if fields.get("max_tokens") is None:
            raise FieldMissing("max_tokens", name="max_tokens")
        return messages_request.read(fields)

    def writer(self, rid: str, model: str, fields: Mapping[str, Any]) -> MessagesWriter:
        return MessagesWriter(rid, model, fields)

    def count(self, fields: Mapping[str, Any], count: CountText = by_bytes) -> bytes:
        """The answer of count_tokens, whose requests name no maximum."""
        return orjson.dumps({"input_tokens": input_tokens(messages_request.read(fields), count)})

    def error(self, problem: OpsError, rid: str) -> bytes:
        return orjson.dumps(error(problem, rid))
