"""The shapes that handlers share: inputs that refuse unknown fields, pages, money, roles."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Path, Query
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    StrictInt,
    StringConstraints,
    WithJsonSchema,
)
from pydantic import Field as Field

from control.money import CREDITS_PATTERN, DOLLARS_PATTERN, credits_to_ucr, dollars_to_rate
from plugins import access
from proxy.costs.pricing import credits_text

Item = TypeVar("Item")

PAGE_DEFAULT, PAGE_MAX = 50, 500
VISIBLE = r"^[^\x00-\x1f\x7f]+$"
KID = r"^[0-9A-Za-z]{10}$"
MODEL = r"^[A-Za-z0-9][A-Za-z0-9._:/@+~-]{0,199}$"
NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
EMAIL = r"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+$"


class Input(BaseModel):
    """What a client sends: a field that is not named here is a mistake, not a wish."""

    model_config = ConfigDict(extra="forbid")


class Output(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class Page(Output, Generic[Item]):
    """One page; `next` is the cursor of the following one, null at the end."""

    data: Sequence[Item]
    next: str | None = None


class Removed(Output):
    removed: str


# Who may: the marks of plugins/access.py as parameters that hand over the caller -----------

Viewer = Annotated[access.Caller, access.needs("viewer")]
Analyst = Annotated[access.Caller, access.needs("analyst")]
Developer = Annotated[access.Caller, access.needs("developer")]
Moderator = Annotated[access.Caller, access.needs("moderator")]
Admin = Annotated[access.Caller, access.needs("admin")]
PlatformAnalyst = Annotated[access.Caller, access.needs("analyst", platform=True)]
PlatformModerator = Annotated[access.Caller, access.needs("moderator", platform=True)]
PlatformAdmin = Annotated[access.Caller, access.needs("admin", platform=True)]

# Values ----------------------------------------------------------------------------------

Label = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=VISIBLE)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=VISIBLE)]
Email = Annotated[
    str, StringConstraints(min_length=3, max_length=320, pattern=EMAIL, to_lower=True)
]
ModelId = Annotated[str, StringConstraints(pattern=MODEL)]
Slug = Annotated[str, StringConstraints(pattern=NAME)]
Parallel = Annotated[StrictInt, Field(ge=1, le=1_000_000)]
Tokens = Annotated[StrictInt, Field(ge=1, le=100_000_000)]

KidPath = Annotated[str, Path(pattern=KID)]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]

CreditsIn = Annotated[
    int,
    BeforeValidator(credits_to_ucr),
    WithJsonSchema({"type": "string", "pattern": CREDITS_PATTERN, "examples": ["250.5"]}),
]
RateIn = Annotated[
    int,
    BeforeValidator(dollars_to_rate),
    WithJsonSchema({"type": "string", "pattern": DOLLARS_PATTERN, "examples": ["0.15"]}),
]
Credits = Annotated[
    int,
    PlainSerializer(credits_text, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["250.500000"]}),
]


def _future(moment: datetime) -> datetime:
    if moment <= datetime.now(UTC):
        raise ValueError("it must lie in the future")
    return moment


def _text(value: Any) -> Any:
    """Numbers would be taken for seconds since 1970; a date is written as text."""
    if not isinstance(value, str):
        raise ValueError("write a date as text, such as 2030-01-31T00:00:00Z")
    return value


Future = Annotated[AwareDatetime, BeforeValidator(_text), AfterValidator(_future)]
