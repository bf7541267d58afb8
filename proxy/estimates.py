"""What a request used where nothing tells it: counted by bytes, and marked so. Pure."""

from collections.abc import Mapping

from proxy.hold import SILENT
from proxy.types import Call, Delivered, Usage

BYTES_PER_TOKEN = 4


def estimate(call: Call, content_bytes: int, told: Mapping[str, int]) -> Usage:
    """Of what came in only where it was not told."""
    tokens = dict(told) or {"input": -(-len(call.body) // BYTES_PER_TOKEN)}
    if call.kind not in SILENT:
        tokens["output"] = -(-content_bytes // BYTES_PER_TOKEN)
    return Usage(tokens, "estimated")


def so_far(call: Call, progress: Delivered) -> Usage:
    return estimate(call, progress.content_bytes, progress.told)
