"""How much to hold for a call: the most that it can cost, or of a stream the most of its next
slice. Pure.
"""

from proxy.bounds.limits import row
from proxy.bounds.meters import Level, Meter
from proxy.costs.beyond import NAMES, reads_elsewhere, tools_of, tools_tokens
from proxy.costs.inputs import inputs_max
from proxy.costs.pricing import credits_text, worst_ucr
from proxy.costs.turns import has_more_than_text
from proxy.costs.units import units_max
from proxy.errors import MaxCostExceeded
from proxy.frozen import frozen
from proxy.request import with_maximum
from proxy.settings import Settings
from proxy.types import Call, Model, Price, Ticket

BYTES_PER_TOKEN = 4  # as text usually counts
TALKS = ("chat", "completions")  # kinds of calls that take a maximum of tokens
SILENT = ("embeddings", "rerank", "moderation")  # kinds of calls that give out no tokens
#: Features on trial by which a model takes more, or gives more, than is known of it.
WIDER, WIDER_TOKENS, LONGER = "context-1m", 1_000_000, "output-128k"


@frozen
class Hold:
    amount_ucr: int
    output_tokens: int  # that it carries
    tokens: int  # that limits of tokens count until it is known how many they are
    tokens_in: int  # those of them that come in
    input_tokens: int  # that it carries


def hold_of(call: Call, model: Model, price: Price, settings: Settings) -> Hold:
    """A token is at least a byte, and the provider keeps to its maximum. Models that think unseen
    are held whole: their output cannot be counted while it comes.
    """
    output = output_max(call, model)
    likely = likely_input(call, model)
    tokens = likely + _likely_output(call, output, settings.output_assumed)
    if _grows(call, model):
        output = min(output, settings.slice_tokens)
    return _hold(call, model, price, output, tokens, likely)


def _grows(call: Call, model: Model) -> bool:
    """Whether it is held slice by slice, as its text comes."""
    return call.stream and call.kind in TALKS and not model.thinks


def more_ucr(ticket: Ticket, tokens: int) -> int:
    """What the next slice of a stream can cost at most, after the hold that it began with."""
    return worst_ucr(0, tokens, ticket.price.reached_by(ticket.input_held))


def _hold(call: Call, model: Model, price: Price, output: int, tokens: int, likely: int) -> Hold:
    into = input_max(call, model)
    return Hold(_worst_of(call, price, into, output), output, tokens, likely, into)


def _worst(call: Call, model: Model, price: Price, output: int) -> int:
    return _worst_of(call, price, input_max(call, model), output)


def _worst_of(call: Call, price: Price, into: int, output: int) -> int:
    bound = price.reached_by(into) if price.tiers else price
    return worst_ucr(into, output, bound, units_max(call, price))


def lowered(
    call: Call, model: Model, price: Price, left_ucr: int, settings: Settings
) -> Hold | None:
    """What the credits that are left carry, for a client who named no maximum of his own."""
    if call.stream or call.kind not in TALKS or names_maximum(call):
        return None
    low = _carried(call, model, price, left_ucr)
    if not low:
        return None
    output = low * call.choices
    likely = likely_input(call, model)
    tokens = likely + min(output, settings.output_assumed)
    return _hold(call, model, price, output, tokens, likely)


def allowed(call: Call, model: Model, price: Price, slice_tokens: int) -> Call:
    """The call within its X-Max-Cost: where its worst case would cost more, with the largest
    maximum that does not. Refused where the client named his own, where its kind takes none, and
    where not a token fits; but a stream is ended at the lower one, as it is where credits end. A
    maximum that nobody has told us is sent along, so that it holds.
    """
    if model.output_assumed and call.output_max is None and call.kind in TALKS:
        call = with_maximum(call, model.output_max)
    limit = call.max_cost_ucr
    if limit is None:
        return call
    most = output_max(call, model)
    # the hold of each slice is rounded up
    slices = -(-most // slice_tokens) if _grows(call, model) and worst_ucr(0, most, price) else 0
    if (needed := _worst(call, model, price, most) + slices) <= limit:
        return call
    if call.kind not in TALKS:
        raise _too_dear(needed, limit)
    tokens = _carried(call, model, price, limit - slices)
    named = call.output_max is not None and not call.stream
    if named or not tokens:
        least = _worst(call, model, price, call.choices) + slices
        raise _too_dear(needed if named else least, limit)
    return with_maximum(call, tokens)


def _too_dear(needed: int, limit: int) -> MaxCostExceeded:
    problem = MaxCostExceeded(needed=credits_text(needed), limit=credits_text(limit))
    meter, level = Meter(b"", b"", "ucr", "request", limit), Level(limit, 0, 0, limit)
    problem.facts = {"limit": {**row(meter, level), "name": "max_cost"}}
    return problem


def _carried(call: Call, model: Model, price: Price, ucr: int) -> int:
    """The largest maximum of each choice whose worst case costs no more."""
    choices = call.choices
    low, high = 0, output_max(call, model) // choices
    while low < high:
        middle = (low + high + 1) // 2
        if _worst(call, model, price, middle * choices) <= ucr:
            low = middle
        else:
            high = middle - 1
    return low


def output_max(call: Call, model: Model) -> int:
    """Tokens of all choices together."""
    if call.kind in SILENT:
        return 0
    if call.output_max is not None and LONGER in call.betas:
        return call.output_max
    most = model.output_max * call.choices
    return most if call.output_max is None else min(most, call.output_max)


def _likely_output(call: Call, most: int, assumed: int) -> int:
    """What a limit of tokens sets aside for what comes out: all that may, or where the client left
    that open what is assumed."""
    return most if names_maximum(call) else min(most, assumed)


def likely_input(call: Call, model: Model) -> int:
    most = context_of(call, model) if call.kind == "chat" else input_max(call, model)
    return min(len(call.body) // BYTES_PER_TOKEN + 1, most)


def names_maximum(call: Call) -> bool:
    """The client, and not we for him."""
    return call.output_max is not None and call.lowered_to is None


def input_max(call: Call, model: Model) -> int:
    """A token is at least a byte; one input has one context at most, a list of them has not."""
    if call.kind != "chat":
        return inputs_max(call, model.context_max)
    most, fields = context_of(call, model), call.fields
    is_plain = NAMES.isdisjoint(fields)
    if is_plain and call.dialect == "chat":  # as most calls are
        return most if has_more_than_text(fields) else min(len(call.body), most)
    tools = tools_of(call)
    reads = (tools or not is_plain) and reads_elsewhere(fields, tools)
    if reads or has_more_than_text(fields):
        return most
    return min(len(call.body) + tools_tokens(fields, tools), most)


def context_of(call: Call, model: Model) -> int:
    if call.betas and WIDER in call.betas:
        return max(model.context_max, WIDER_TOKENS)
    return model.context_max
