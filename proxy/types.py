"""What crosses the borders between the six steps. Frozen, slotted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from proxy.bounds.meters import Job, Meter, Payment, Standing, Standings
from proxy.costs.price import Kind
from proxy.costs.price import Price as Price
from proxy.dialects.conversation import Conversation
from proxy.forms import Part
from proxy.frozen import frozen

Network = IPv4Network | IPv6Network
UNBOUNDED = 1 << 62  # tokens of a call that has not been admitted
TokenKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey

# The world as the control plane published it ------------------------------------


@dataclass(frozen=True, slots=True)
class OwnKey:
    """A provider's key that a person or an organisation has entered (BYOK), sealed as it came."""

    name: str  # of the key, as errors call it
    kind: str  # of its provider
    owner: str  # whom it is sealed for
    adapter: str
    base_url: str
    sealed: bytes = field(repr=False)
    fallback: bool = False  # its owner lets the platform's key stand in, and pays for that
    quirks: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)  # beyond those placed there -> its name


@dataclass(frozen=True, slots=True)
class Deployment:
    """One place where a model can be had."""

    id: int
    model: str
    provider: str
    adapter: str
    base_url: str
    upstream_model: str
    secret: str = field(default="", repr=False)  # in memory only, opened from the snapshot
    quirks: Mapping[str, Any] = field(default_factory=dict)  # by which it differs from its dialect
    own: OwnKey | None = None  # the caller's, in place of the platform's


@dataclass(frozen=True, slots=True)
class Model:
    id: str
    context_max: int  # tokens
    output_max: int  # tokens
    created: int  # seconds since 1970
    deployments: tuple[Deployment, ...]
    price: Price | None
    thinks: bool = False  # gives out tokens that no stream shows
    places: Mapping[str, str] = field(default_factory=dict)  # kind of provider -> its name there
    output_assumed: bool = False  # nobody says its maximum, so ours is sent along
    title: str = ""
    takes: tuple[str, ...] = ("text",)
    gives: tuple[str, ...] = ("text",)
    names: frozenset[str] = frozenset()  # by which else it is called; no other model bears them
    byok: bool = True  # callers' own keys serve it


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs tokens: his public halves by their ids."""

    name: str
    audience: str
    keys: Mapping[str, TokenKey]
    foreign: bool = False  # a company's own identity provider


Issuers = Mapping[str, Issuer]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What all callers share. A request keeps the one it was admitted with."""

    version: int = 0
    models: Mapping[str, Model] = field(default_factory=dict)
    issuers: Issuers = field(default_factory=dict)
    names: Mapping[str, Model] = field(default_factory=dict)  # what else models are called


# The caller ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Names:
    """Whole names, and beginnings of names that were written with a `*` at their end."""

    whole: frozenset[str]
    beginnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, written: Iterable[str]) -> "Names":
        listed = list(written)
        return cls(
            frozenset(name for name in listed if not name.endswith("*")),
            tuple(name[:-1] for name in listed if name.endswith("*")),
        )

    def __contains__(self, name: object) -> bool:
        return name in self.whole or (isinstance(name, str) and name.startswith(self.beginnings))


@dataclass(frozen=True, slots=True)
class OldSecret:
    """The one before the last rotation, which is good for a while."""

    digest: bytes
    pepper: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class KeyRecord:
    kid: str
    shard: int
    version: int
    digest: bytes
    pepper: int
    organisation: str
    person: str
    models: Names | None  # None: all
    meters: tuple[Meter, ...]
    routes: Names | None = None  # None: all
    addresses: tuple[Network, ...] | None = None  # None: everywhere
    old: OldSecret | None = None
    scopes: frozenset[str] | None = None  # None: all
    own: tuple[OwnKey, ...] = ()  # its person's


@dataclass(frozen=True, slots=True)
class OrganisationRecord:
    id: str
    version: int
    meters: tuple[Meter, ...]
    own: tuple[OwnKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Token:
    """What a genuine token says: which record it stands for, and until when."""

    issuer: Issuer
    shard: int
    record: str  # of a sign-in or of an API key
    organisation: str
    person: str
    secret: str  # which secret of the API key it was made with
    until_ms: int


@dataclass(frozen=True, slots=True)
class Caller:
    key: KeyRecord
    organisation: OrganisationRecord
    standings: Standings
    digest: bytes = b""  # of the secret that he showed
    until_ms: int = 0  # how long that one is good; 0: as long as the key
    issuer: Issuer | None = None  # of the token that he showed instead


class Delivered(Protocol):
    """What of a stream has gone to the client, in counts."""

    @property
    def content_bytes(self) -> int: ...

    @property
    def told(self) -> Mapping[str, int]:
        """Tokens that came in, where the provider has told them before the end."""


# One request -----------------------------------------------------------------------


@frozen
class Call:
    """A request as it came in, parsed as far as admission needs it."""

    rid: str
    path: str
    body: bytes
    fields: Mapping[str, Any]
    model: str
    stream: bool
    usage_wanted: bool  # a stream whose client asked for the usage chunk
    output_max: int | None  # what the client allows, all choices together
    end_user: str | None
    job: Job | None = None
    client: str = ""  # the address that it came from
    lowered_to: int | None = None  # a maximum of tokens that the client had not named
    max_cost_ucr: int | None = None  # what the client allows this request to cost
    kind: Kind = "chat"
    dialect: str = "chat"  # that the client speaks
    choices: int = 1  # answers that it asks for
    free: bool = False  # no provider charges for it
    parts: Sequence[Part] = ()  # of a form
    betas: str = ""  # features on trial that an Anthropic client names
    conversation: Conversation | None = None  # where it is said in another dialect
    model_output_max: int = 0  # of the model, for whom a provider wants a number
    context_max: int = 0  # likewise
    method: bytes = b"POST"
    target: str = ""  # below the provider's address, of what it keeps: a file or a batch
    input_most: int = UNBOUNDED  # tokens that are held, and no estimate goes beyond
    output_most: int = UNBOUNDED  # likewise; of a stream, with all slices that it may get

    def bound(self, input_most: int, output_most: int) -> None:
        """Once, as it is admitted: to copy it would cost more than to find them."""
        object.__setattr__(self, "input_most", input_most)
        object.__setattr__(self, "output_most", output_most)


@frozen
class Offer:
    """Where a caller's call can be served, best first, and what it may cost at most."""

    deployments: tuple[Deployment, ...]
    price: Price
    unpaid: "Offer | None" = None  # where no credits carry it: by his own keys alone


@frozen
class Ticket:
    """What a request holds, in the proxy's memory."""

    rid: str
    shard: int
    caller: Caller
    model: Model
    price: Price
    standing: Standing
    payment: Payment
    context: bytes  # JSON: what the ledger is told if nobody ends this request
    held_ucr: int
    left_ucr: int  # of the pool, after this hold
    deployments: tuple[Deployment, ...] = ()
    left: tuple[int, ...] = ()  # of each meter of the standing, after this hold
    amounts: Sequence[int] = ()  # that it takes of each
    input_held: int = UNBOUNDED  # tokens that the hold carries
    output_held: int = 0  # likewise; of a stream the first slice
    lowered_to: int | None = None  # tokens, when the credits did not carry the model's maximum
    conversation: Conversation | None = None  # where the call is said in another dialect


@dataclass(frozen=True, slots=True)
class Usage:
    """Disjoint classes (proxy/costs/price.py), as the provider counted them or as we estimated."""

    tokens: Mapping[str, int]  # and what is counted and is no token
    source: str = "provider"  # provider, estimated, none
    doubt: str = ""  # why this reading may be wrong: total_differs, count_absurd, input_missing
    tokenizer: str = ""  # by which an estimate was counted; empty: by bytes

    @property
    def reason(self) -> str:
        """How it is known, as a stable code."""
        return self.doubt or ("usage_frame" if self.source == "provider" else "no_usage_frame")


NO_USAGE = Usage({}, "none")


@dataclass(slots=True)
class Outcome:
    """How a request went, filled in on its way and read by `settle`."""

    kind: str = "released"  # settled: something is charged or was served; released: nothing was
    reason: str = ""  # a stable code
    usage: Usage = NO_USAGE
    deployment: Deployment | None = None
    attempts: int = 0
    extended_ucr: int = 0  # held beyond the ticket, as a stream went on
    delivered: "Delivered | None" = None  # of a stream, while it runs
    revoked: bool = False  # its key or organisation was, while it ran
    counts: bool = False  # as a call, although nothing is charged: served free, or his own doing
    cost_ucr: int = 0  # of the usage that was reckoned last
    reckoned: Usage | None = None
