"""Values that are made for every request: frozen for the type checker alone, because an `__init__`
that keeps to it while it runs takes three times as long.
"""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    return dataclass(slots=True)(cls)
