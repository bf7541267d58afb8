"""What an answer says, in no dialect: the same events for a stream and for a whole answer.

The order of a good answer: Began, then parts (a part ends where another begins), then Finished;
Counted whenever the provider tells usage, the last one wins; where a stream breaks off and the last
was partial, what went out is counted by what was delivered. Failed ends an answer that broke off.
"""

from dataclasses import dataclass
from typing import Literal

from proxy.types import Usage

#: Why a model stopped.
Reason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class Began:
    id: str  # the provider's; a writer may put its own dialect's prefix before it
    model: str


@dataclass(frozen=True, slots=True)
class TextPiece:
    text: str


@dataclass(frozen=True, slots=True)
class RefusalPiece:
    text: str


@dataclass(frozen=True, slots=True)
class ThinkingPiece:
    text: str


@dataclass(frozen=True, slots=True)
class ThinkingSigned:
    """Ends a thought: what its provider wants to see again; or a thought that nobody may read."""

    signature: str = ""
    redacted: str = ""


@dataclass(frozen=True, slots=True)
class ToolBegan:
    index: int  # 0, 1, ... of this answer's calls
    id: str
    name: str
    signature: str = ""


@dataclass(frozen=True, slots=True)
class ToolPiece:
    """More of the arguments' JSON, of the call that began last."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    reason: Reason
    stop_sequence: str = ""  # the one that ended it
    native: str = ""  # the provider's own word, for the record


@dataclass(frozen=True, slots=True)
class Counted:
    usage: Usage
    partial: bool = False  # all that came in, but of what goes out no more than the beginning


@dataclass(frozen=True, slots=True)
class Failed:
    """An error in the middle of an answer."""

    kind: str  # the provider's own word
    message: str


Event = (
    Began
    | TextPiece
    | RefusalPiece
    | ThinkingPiece
    | ThinkingSigned
    | ToolBegan
    | ToolPiece
    | Finished
    | Counted
    | Failed
)
