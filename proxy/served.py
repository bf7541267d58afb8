"""What the door serves that reaches a provider: each with its dialect, its paths, how its body is
read, and the kind of call by which it is held, priced and charged. There is no other way out.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from proxy import fields
from proxy.costs.price import KINDS, Kind
from proxy.fields import Read

BASES = ("/v1", "/api/v1/llm")


@dataclass(frozen=True, slots=True)
class Served:
    dialect: str
    kind: Kind  # its meter
    path: str  # below each of the bases
    read: Read
    form: bool = False  # its body is multipart, with a file
    free: str = ""  # why it costs nothing, though a provider is asked
    alias: str = ""  # one more path, whole
    methods: tuple[bytes, ...] = (b"POST",)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.path} has no meter: {self.kind!r} is no kind of call")

    @property
    def paths(self) -> tuple[str, ...]:
        return (*(base + self.path for base in BASES), *filter(None, (self.alias,)))


SERVED = (
    Served("chat", "chat", "/chat/completions", fields.chat),
    Served("responses", "chat", "/responses", fields.responses),
    Served("messages", "chat", "/messages", fields.messages),
    Served(
        "count_tokens",
        "chat",
        "/messages/count_tokens",
        fields.count_tokens,
        free="no provider charges for it",
    ),
    Served("completions", "completions", "/completions", fields.completions),
    Served("embeddings", "embeddings", "/embeddings", fields.embeddings),
    Served("moderations", "moderation", "/moderations", fields.embeddings),
    Served("rerank", "rerank", "/rerank", fields.rerank),
    Served(
        "images",
        "images",
        "/images/generations",
        fields.images,
        alias="/api/v1/llm/image/generations",
    ),
    Served("speech", "speech", "/audio/speech", fields.speech),
    Served(
        "transcription", "transcription", "/audio/transcriptions", fields.transcription, form=True
    ),
    Served("translation", "transcription", "/audio/translations", fields.transcription, form=True),
)
_KEPT = "a provider charges nothing for keeping"
_OWN = "batches go by the caller's own key alone"
#: What providers keep. A path that ends with / stands for all that begin so.
KEPT = (
    Served("files", "chat", "/files", fields.kept, free=_KEPT, methods=(b"GET", b"POST")),
    Served("files", "chat", "/files/", fields.kept, free=_KEPT, methods=(b"GET", b"DELETE")),
    Served("batches", "chat", "/batches", fields.kept, free=_OWN, methods=(b"GET", b"POST")),
    Served("batches", "chat", "/batches/", fields.kept, free=_OWN, methods=(b"GET", b"POST")),
)


def _by_path(served: Iterable[Served]) -> Iterator[tuple[str, Served]]:
    for one in served:
        yield from ((path, one) for path in one.paths)


BY_PATH: Mapping[str, Served] = dict(_by_path(SERVED))
KEPT_BY_PATH: Mapping[str, Served] = dict(_by_path(KEPT))
CHAT = SERVED[0]
#: Paths whose errors are told in a dialect of their own.
DIALECTS: Mapping[str, str] = {path: one.dialect for path, one in BY_PATH.items()}
