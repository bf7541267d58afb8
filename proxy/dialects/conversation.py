"""What a request says, in no dialect. Frozen; tuples keep the order of the client.

Whoever writes it for a provider carries every value or raises `NotCarried`: nothing is dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# What a turn is made of -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    extra: Mapping[str, Any] = field(
        default_factory=dict
    )  # such as `cache_control`, for who knows it


@dataclass(frozen=True, slots=True)
class Refusal:
    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """`signature` proves to its provider that the text is its own; it goes back unchanged."""

    text: str
    signature: str = ""
    redacted: str = ""  # what stands instead of a text that nobody may read


@dataclass(frozen=True, slots=True)
class Media:
    """An image, a sound or a document: its bytes in base64, or where they are."""

    kind: Literal["image", "audio", "file"]
    media_type: str = ""
    data: str = ""
    url: str = ""
    file_id: str = ""
    name: str = ""
    detail: str = ""  # low, high, auto
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: str  # JSON, as the model wrote it
    signature: str = ""  # of the thought that led to it, where a provider wants it back
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolResult:
    id: str
    name: str  # of the tool; a reader finds it by the call's id
    parts: tuple["Text | Media", ...]
    is_error: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


Part = Text | Refusal | Thinking | Media | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class Message:
    """A turn. Results of tools are parts of a user's turn; `system` may stand between turns."""

    role: Literal["user", "assistant", "system"]
    parts: tuple[Part, ...]
    name: str = ""


# What it may use, and how it is to answer -----------------------------------------


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str
    schema: Mapping[str, Any]  # of its arguments
    strict: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolChoice:
    mode: Literal["auto", "none", "any", "tool"] = "auto"
    name: str = ""  # of the one tool
    parallel: bool | None = None  # False: one call at a time


@dataclass(frozen=True, slots=True)
class Shape:
    """What the answer's text has to be: any JSON, or JSON of a schema."""

    schema: Mapping[str, Any] | None = None
    name: str = "answer"
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How much the model may think before it answers: in words, or in tokens."""

    effort: str = ""  # none, minimal, low, medium, high, ...
    tokens: int | None = None
    off: bool = False
    shown: bool = True  # whether thoughts come with the answer


@dataclass(frozen=True, slots=True)
class Sampling:
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    system: tuple[Text, ...]  # what stands before the first turn
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    output_max: int | None = None
    stop: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    shape: Shape | None = None
    reasoning: Reasoning | None = None
    choices: int = 1
    user: str = ""
    #: What changes no answer, such as `prompt_cache_key`: for who knows it, and missed by nobody.
    hints: Mapping[str, Any] = field(default_factory=dict)
    #: What the client named and this page has no word for, by its name in the client's dialect.
    others: Mapping[str, Any] = field(default_factory=dict)
