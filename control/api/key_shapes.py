"""API keys as they come in and go out."""

from collections.abc import Sequence
from datetime import datetime
from ipaddress import ip_network
from typing import Annotated, Literal
from uuid import UUID

import asyncpg
from pydantic import AfterValidator, StrictInt, StringConstraints, WithJsonSchema

from control.api.limit_shapes import RULES_PER_SUBJECT_MAX, LimitShown, LimitTerms, shown
from control.api.shapes import Credits, CreditsIn, Field, Future, Input, Label, Output, Parallel
from control.scopes import SCOPES
from proxy.who import keys

LISTED_MAX = 200  # models, routes and addresses of a key, each
TAGS_MAX = 50
DAY_S = 24 * 3600
OVERLAP_MAX_S = 90 * DAY_S
MODELS = r"^(\*|[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,198}\*?)$"
ROUTES = r"^/[A-Za-z0-9._~:/-]{0,198}\*?$"
TAGS = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"


def _network(text: str) -> str:
    """An address stands for the network of it alone."""
    try:
        return str(ip_network(text))
    except ValueError:
        raise ValueError("write an address or a network such as 10.0.0.0/8") from None


def _scope(text: str) -> str:
    if text not in SCOPES:
        raise ValueError(f"there is no such scope; take some of {', '.join(SCOPES)}")
    return text


def _unique(written: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(written))


ModelNames = Annotated[str, StringConstraints(pattern=MODELS)]
Routes = Annotated[str, StringConstraints(pattern=ROUTES)]
Address = Annotated[str, StringConstraints(max_length=64), AfterValidator(_network)]
Payer = Literal["organisation", "own"]  # the organisation's pool, the member's own credits
Scope = Annotated[
    str,
    StringConstraints(max_length=64),
    AfterValidator(_scope),
    WithJsonSchema({"type": "string", "enum": list(SCOPES)}),
]
TagName = Annotated[str, StringConstraints(pattern=TAGS)]
Listed = Field(min_length=1, max_length=LISTED_MAX)
Once = AfterValidator(_unique)
Payers = Field(min_length=1, max_length=2)


def _the_organisation() -> list[Payer]:
    return ["organisation"]


class KeyTerms(Input):
    """What a key is limited to; null: not at all. `openai/*` is all names that begin so. Without
    scopes it may do what its person may. Who pays: the first that can."""

    expires_at: Future | None = None
    models: Annotated[list[ModelNames], Listed, Once] | None = None
    routes: Annotated[list[Routes], Listed, Once] | None = None
    scopes: Annotated[list[Scope], Listed, Once] | None = None
    addresses: Annotated[list[Address], Listed, Once] | None = None
    parallel_max: Parallel | None = None
    budget: CreditsIn | None = None
    pay: Annotated[list[Payer], Payers, Once] = Field(default_factory=_the_organisation)
    tags: dict[TagName, Label] = Field(default_factory=dict, max_length=TAGS_MAX)


class KeyWanted(KeyTerms):
    name: Label
    limits: Annotated[list[LimitTerms], Field(max_length=RULES_PER_SUBJECT_MAX)] = Field(
        default_factory=list
    )


class KeyWantedFor(KeyWanted):
    organisation: UUID | None = None


class KeyEdit(KeyTerms):
    """Fields that are not sent stay as they are."""

    name: Label = ""


class KeyRotation(Input):
    """How long the old secret is good beside the new one."""

    overlap_s: Annotated[StrictInt, Field(ge=0, le=OVERLAP_MAX_S)] = DAY_S


class ApiKey(Output):
    id: str
    key: str  # masked
    name: str
    organisation: UUID
    user: UUID
    models: list[str] | None
    routes: list[str] | None
    scopes: list[str] | None
    addresses: list[str] | None
    parallel_max: int | None
    budget: Credits | None
    budget_used: Credits | None  # as far as it is booked
    pay: list[str]
    tags: dict[str, str]
    status: str
    expires_at: datetime | None
    created_at: datetime
    revoked_at: datetime | None
    rotated_at: datetime | None
    old_key_until: datetime | None  # the secret before the last rotation
    last_used_at: datetime | None
    limits: list[LimitShown]


class KeyMade(ApiKey):
    """`key` is the whole key, shown this once."""


def masked(row: asyncpg.Record) -> ApiKey:
    named = {
        "id": row["kid"],
        "key": f"{keys.PREFIX}…{row['last4']}",
        "user": row["person"],
        "budget": row["budget_ucr"],
        "budget_used": row["budget_used_ucr"],
        "old_key_until": row["old_until"],
        "last_used_at": row["used_at"],
        "limits": [shown(rule) for rule in row["rules"] or ()],
    }
    return ApiKey.model_validate({**dict(row), **named})


def whole(row: asyncpg.Record, key: keys.Key) -> KeyMade:
    shown = masked(row)
    # not dumped and read again: that would turn its credits into text
    return KeyMade.model_construct(**{**shown.__dict__, "key": key.text})
