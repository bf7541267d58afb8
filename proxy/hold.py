"""How much to hold for a call: the most that it can cost, or of a stream the most of its next
slice. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy.pricing import worst_ucr
from proxy.request import choices_of
from proxy.types import Call, Model, Price


@dataclass(frozen=True, slots=True)
class Hold:
    amount_ucr: int
    output_tokens: int  # that it carries


def hold_of(call: Call, model: Model, price: Price, slice_tokens: int) -> Hold:
    """A token is at least a byte, and the provider keeps to its maximum. Models that think unseen
    are held whole: their output cannot be counted while it comes.
    """
    output = output_max(call, model)
    if call.stream and not model.thinks:
        output = min(output, slice_tokens)
    return Hold(worst_ucr(input_max(call, model), output, price), output)


def lowered(call: Call, model: Model, price: Price, left_ucr: int) -> Hold | None:
    """What the credits that are left carry, for a client who named no maximum of his own."""
    if call.output_max is not None or call.stream or left_ucr <= 0:
        return None
    into, choices = input_max(call, model), choices_of(call.fields)
    low, high = 0, output_max(call, model) // choices
    while low < high:  # the largest maximum whose worst case fits
        middle = (low + high + 1) // 2
        if worst_ucr(into, middle * choices, price) <= left_ucr:
            low = middle
        else:
            high = middle - 1
    return Hold(worst_ucr(into, low * choices, price), low * choices) if low else None


def output_max(call: Call, model: Model) -> int:
    """Tokens of all choices together."""
    most = model.output_max * choices_of(call.fields)
    return most if call.output_max is None else min(most, call.output_max)


def input_max(call: Call, model: Model) -> int:
    unseen = _reads_more_than_the_body(call.fields)
    return model.context_max if unseen else min(len(call.body), model.context_max)


def _reads_more_than_the_body(fields: Mapping[str, Any]) -> bool:
    """Images, audio and files may count for more tokens than they have bytes here."""
    for message in fields["messages"]:
        content = message.get("content")
        if isinstance(content, list) and not all(map(_is_text, content)):
            return True
    return False


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in ("text", "refusal")
