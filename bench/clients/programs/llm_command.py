"""The command `llm`, with the gateway's models in its file of further models."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cases import AS_JSON, HELLO, KEY, MODEL, NO_MODEL, SCHEMA, URL, WEATHER, run

HOME = Path(tempfile.mkdtemp(prefix="llm-"))
ROW = """
- model_id: {name}
  model_name: {name}
  api_base: {url}/v1
  api_key_name: gateway
  supports_tools: true
  supports_schema: true
"""
TOOL = "def weather(city: str, degrees: int) -> str:\n    'of a city'\n    return 'rain'\n"
(HOME / "extra-openai-models.yaml").write_text(
    "".join(ROW.format(name=name, url=URL) for name in (MODEL, NO_MODEL))
)
(HOME / "keys.json").write_text(json.dumps({"gateway": KEY}))


def llm(*words, model=MODEL):
    command = [str(Path(sys.executable).parent / "llm"), "-m", model, *words]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LLM_USER_PATH": str(HOME)},
    )
    return done.returncode, done.stdout.strip(), done.stderr


def chat():
    assert llm("--no-stream", HELLO)[1] == HELLO


def stream():
    assert llm(HELLO)[1] == HELLO


def tools():
    assert "rain" in llm("--functions", TOOL, "the weather")[1]


def structured():
    assert json.loads(llm("--schema", json.dumps(SCHEMA), AS_JSON)[1]) == WEATHER


def errors():
    code, _, told = llm("a", model=NO_MODEL)
    assert code
    assert "no model" in told


run(
    {
        "chat": chat,
        "stream": stream,
        "tools": tools,
        "structured": structured,
        "errors": errors,
    }
)
