"""What a request used where nothing tells it: counted by bytes, never beyond what is held for it,
and marked so. Pure.
"""

from collections.abc import Mapping

from proxy.costs.hold import SILENT
from proxy.costs.price import SIDES
from proxy.types import Call, Delivered, Usage

BYTES_PER_TOKEN = 4


def estimate(call: Call, content_bytes: int, told: Mapping[str, int]) -> Usage:
    """Of what came in only where it was not told."""
    tokens = dict(told)
    if not any(SIDES.get(name) == "input" for name in told):
        tokens["input"] = min(-(-len(call.body) // BYTES_PER_TOKEN), call.input_most)
    if call.kind not in SILENT:
        tokens["output"] = min(-(-content_bytes // BYTES_PER_TOKEN), call.output_most)
    return Usage(tokens, "estimated")


def so_far(call: Call, progress: Delivered) -> Usage:
    return estimate(call, progress.content_bytes, progress.told)
