"""What the programs of clients share: where the gateway is, and how a case is told.

A program imports nothing of this repository but this file, which lies beside it.
"""

import json
import os
from collections.abc import Callable, Mapping

URL = os.environ["GATEWAY_URL"]
KEY = os.environ["GATEWAY_KEY"]
MODEL = "ops/echo"  # repeats what it is told, and calls the tool that is named
PARALLEL = "clients/tools"  # calls the first tool twice
EMBEDDER = "clients/embed"
PAINTER, SPEAKER, HEARER = "clients/image", "clients/speech", "clients/hearing"
AT_PROVIDER = {"X-Ops-Provider": "mock"}  # where files lie, where several could keep them
NO_MODEL = "clients/none"
HELLO = "hello, world"
WEATHER = {"city": "Oslo", "degrees": 3}
AS_JSON = json.dumps(WEATHER)  # repeated, it is an answer of the shape that is asked for
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJ"
    "RU5ErkJggg=="
)
IMAGE = f"data:image/png;base64,{PIXEL}"


def run(cases: Mapping[str, Callable[[], object]]) -> None:
    """Each case ends well, or is told with what went wrong."""
    for name, case in cases.items():
        try:
            case()
            told = ""
        except BaseException as problem:
            told = f"{type(problem).__name__}: {problem}"
        print(json.dumps({"case": name, "problem": " ".join(told.split())[:300]}), flush=True)


def raises(kind: type[Exception], call: Callable[[], object]) -> Exception:
    try:
        call()
    except kind as problem:
        return problem
    raise AssertionError(f"{kind.__name__} was not raised")
