"""Name of a client's dialect -> dialect. Whatever is no conversation has OpenAI's errors."""

from collections.abc import Mapping
from typing import Any, Final

from proxy.dialects.base import ClientDialect
from proxy.dialects.chat import Chat
from proxy.dialects.messages import Messages
from proxy.dialects.responses import Responses

_chat: Final[ClientDialect] = Chat()
_messages: Final = Messages()

#: Those in which conversations come.
CLIENTS: Final[Mapping[str, ClientDialect]] = {
    "chat": _chat,
    "messages": _messages,
    "responses": Responses(),
}


def client_of(dialect: str) -> ClientDialect:
    return _messages if dialect == "count_tokens" else CLIENTS.get(dialect, _chat)


def counted(fields: Mapping[str, Any]) -> bytes:
    """The answer to a count of tokens whose provider cannot be asked."""
    return _messages.count(fields)
