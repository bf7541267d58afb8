"""The tables of bench/README.md, made of a results file; people write all around them. Pure but
for reading and writing the page.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.compare import figures
from bench.compare.figures import Ratio, Row, no_ratio, ratio, ratio_of_times
from bench.compare.measure import ROLES

PAGE = Path(__file__).parent.parent / "README.md"
RESULTS = PAGE.parent / "results"
NAMES = ("opscenter", "nginx", "litellm")
BEGIN, END = "<!-- compared by results/{}: begin -->", "<!-- compared: end -->"
_BLOCK = re.compile(r"<!-- compared by results/(\S*): begin -->\n(.*?)<!-- compared: end -->", re.S)

COLUMNS = (
    "measure", "against nginx", "against LiteLLM", "Ops-Center", "nginx", "LiteLLM", "wanted",
)  # fmt: skip

Figure = Callable[[Sequence[Row], str], float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """One measure: how it comes of the samples, how it is shown, what is wanted of it."""

    title: str
    figure: Figure
    shown: str = "{:.0f}"
    wanted: str = ""
    ratio: Ratio = ratio


def _cpu(scene: str, roles: Sequence[str] = ("gateway",)) -> Figure:
    return lambda rows, gateway: figures.cpu(rows, scene, gateway, roles)


def _added(scene: str, name: str) -> Figure:
    return lambda rows, gateway: figures.added(rows, scene, gateway, name)


def _plain(scene: str, name: str) -> Figure:
    return lambda rows, gateway: figures.plain(rows, scene, gateway, name)


def _percent(name: str, rows: Sequence[Row], gateway: str) -> float | None:
    share = figures.plain(rows, "plain", gateway, name)
    return None if share is None else share * 100


_ms = partial(Line, shown="{:.2f}", ratio=ratio_of_times)
LINES = (
    Line("CPU per request, µs", _cpu("plain"), wanted="≤ 6x, ≤ 1/60"),
    Line("… with Redis, drain and database, µs", _cpu("plain", ROLES)),
    Line("CPU per request at 40 a second, µs", _cpu("steady")),
    Line("requests a second, gateway on one core", _plain("plain", "per_second"), wanted="≥ 50x"),
    Line("… if that core had been full", figures.full_core),
    Line("… how full it was, %", partial(_percent, "gateway_core"), ratio=no_ratio),
    Line("… how full the others were, %", partial(_percent, "other_cores"), ratio=no_ratio),
    _ms("added p50 at 40 requests a second, ms", _added("steady", "p50")),
    _ms("added p99 at 40 requests a second, ms", _added("steady", "p99")),
    _ms("added p50 at 70 % of its peak, ms", _added("busy", "p50"), wanted="≤ 1 ms"),
    _ms("added p99 at 70 % of its peak, ms", _added("busy", "p99"), wanted="≤ 5 ms"),
    Line("CPU per stream, 50 pieces at once, µs", _cpu("stream")),
    Line("CPU per stream, 50 pieces 20 ms apart, µs", _cpu("paced")),
    Line("CPU per stream, 500 streams, 40 ms apart, µs", _cpu("many"), wanted="≤ 2.5x"),
    _ms("added time to first byte p50, 8 streams a second, ms", _added("paced", "first_p50")),
    _ms("added time to first byte p99, 8 streams a second, ms", _added("paced", "first_p99")),
    _ms("added time to first byte p50, 500 streams, ms", _added("many", "first_p50")),
    _ms("added time to first byte p99, 500 streams, ms", _added("many", "first_p99"),
        wanted="≤ 3 ms"),
    _ms("added delay of a piece p50, 8 streams a second, ms", _added("paced", "late_p50")),
    _ms("added delay of a piece p99, 8 streams a second, ms", _added("paced", "late_p99")),
    _ms("added delay of a piece p50, 500 streams, ms", _added("many", "late_p50")),
    _ms("added delay of a piece p99, 500 streams, ms", _added("many", "late_p99")),
)  # fmt: skip
ABOUT = (  # of the gateways, not of samples
    ("memory of an idle worker, MB", ("memory_idle_mb", "gateway"), "{:.0f}", "≤ 100 MB"),
    ("memory of the worker after all load, MB", ("memory_after_mb", "gateway"), "{:.0f}", ""),
    ("start until it answers, s", ("start_s",), "{:.2f}", ""),
    ("CPU while idle, all processes, % of a core", ("idle_cpu_percent",), "{:.1f}", ""),
)


def tables(report: Mapping[str, Any]) -> str:
    """Ratios first, then figures."""
    lines = [_line(COLUMNS), "|---|" + "---:|" * 5 + "---|"]
    lines += [_line((title, *cells)) for title, cells in _cells(report)]
    where, money = report["machine"], report["money"]
    about = [f"- {name}: {gateway['about']}." for name, gateway in report["gateways"].items()]
    return "\n".join([
        *lines,
        "",
        *about,
        f"- {where['cpu']}, {where['cores']} cores, {where['memory_gib']} GiB, Linux"
        f" {where['kernel']}, Python {where['python']}; commit {where['commit']}; load before:"
        f" {where['load_before']}; {report['rounds']} rounds.",
        f"- First start of Ops-Center, which makes its database: {report['first_start_s']} s.",
        f"- Charges compared with what the provider billed: {money['billed']}; differences:"
        f" {len(money['problems'])}. Errors: {report['errors']}.",
        "",
    ])  # fmt: skip


def summary(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """The same rows for programs, as they stand at the top of the results."""
    return [dict(zip(COLUMNS, (title, *cells), strict=True)) for title, cells in _cells(report)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(report: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for line in LINES:
        values = [line.figure(report["samples"], name) for name in NAMES]
        yield line.title, (*_row(values, line.shown, line.ratio), line.wanted)
    for title, path, shown, wanted in ABOUT:
        values = [_at(report["gateways"].get(name), path) for name in NAMES]
        yield title, (*_row(values, shown, ratio), wanted)


def _row(values: Sequence[float | None], shown: str, ratio: Ratio) -> tuple[str, ...]:
    ours, nginx, litellm = values
    figures = ("–" if value is None else shown.format(value) for value in values)
    return ratio(ours, nginx), ratio(ours, litellm), *figures


def _at(gateway: Mapping[str, Any] | None, path: Sequence[str]) -> float | None:
    value: Any = gateway
    for name in path:
        value = (value or {}).get(name)
    return None if value is None else float(value)


# The page -----------------------------------------------------------------------------


def write(results: Path) -> None:
    """Puts the tables of this file into the page."""
    text = PAGE.read_text()
    block = f"{BEGIN.format(results.name)}\n{tables(json.loads(results.read_text()))}{END}"
    PAGE.write_text(_BLOCK.sub(lambda _: block, text))


def problem(page: Path = PAGE, results: Path = RESULTS) -> str | None:
    """What is wrong with the page's tables; before the first results there are none."""
    found = _BLOCK.search(page.read_text())
    if found is None:
        return f"{page.name} has no place for the comparison"
    name, shown = found.groups()
    if not shown and not any(results.glob("compare-*.json")):
        return None
    if not (results / name).is_file():
        return f"{page.name} shows results/{name}, which is not there"
    if tables(json.loads((results / name).read_text())) != shown:
        return f"{page.name} does not show results/{name}: python -m bench.compare --page"
    return None
