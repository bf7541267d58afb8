"""The report of a run as a page of Markdown, made from its JSON: what was done, and what holds."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Report = Mapping[str, Any]

FAULTS: Mapping[str, str] = {
    "kill-worker": "SIGKILL for a worker of the proxies",
    "kill-set": "SIGKILL for all proxies of a machine, its supervisor included",
    "kill-supervisor": "SIGKILL for a supervisor of workers",
    "kill-drain": "SIGKILL for a drain",
    "kill-redis": "SIGKILL for Redis, which starts again with its append-only file",
    "redis lost its last moments": "of these: up to 2 s of the file were cut off as well",
    "wipe": "SIGKILL for Redis, which starts again with nothing",
    "flush": "FLUSHALL: Redis runs on with nothing",
    "kill-postgres": "SIGKILL for PostgreSQL",
    "kill-backend": "SIGKILL for one process of PostgreSQL, which then ends all others",
    "kill-control": "SIGKILL for the control plane",
    "stop-worker": "a worker stands still (SIGSTOP) for 0.1 to 20 s",
    "stop-drain": "a drain stands still",
    "stop-redis": "Redis stands still",
    "stop-postgres": "PostgreSQL stands still, with all its processes",
    "cable delay": "a cable to Redis delays both directions",
    "cable drip": "a cable gives 16 bytes every 2 ms",
    "cable half": "a cable swallows what Redis answers",
    "cable blackhole": "a cable swallows both directions",
    "cable reset": "all connections of a cable are reset",
    "cable cut": "a cable resets all connections, and new ones too",
    "script-flush": "Redis forgets every script",
    "disk-full-redis": "the disk of Redis is full",
    "disk-full-journal": "the disk of a machine's journals is full",
    "topup": "a payment comes in, told one to three times",
}
CHECKS: Mapping[str, str] = {
    "every bill has its row": "no billed request without a usage row",
    "one end, one charge": "one terminal row per request; only an orphan's late truth is a second",
    "exact amounts": "the row has the bill's tokens, and the cost that the checker computes",
    "nothing but what was billed": "no charge without a bill",
    "rows belong to their callers": "key, organisation, pool and shard fit together",
    "clients were told the truth": "the cost in an answer is the cost in the books",
    "orphans have a killer": "a billed request ends as an orphan only when its proxy was killed",
    "double entry": "account totals are the sums of their rows; all debits equal all credits",
    "top-ups exactly once": "each payment is booked once, whoever told of it how often",
    "moves at most once": "credits move once or not at all, and once where somebody heard so",
    "outbox applied": "Redis has every change of the ledger, without a gap",
    "no dead letters": "nothing came that could not be booked",
    "pools equal the ledger": "every balance in Redis is the ledger's, to the micro-credit",
    "budgets equal the ledger": "every use of a budget, too",
    "windows equal the ledger": "calls, tokens and credits of every limit with a window, too",
    "all holds released": "no hold, no lease, no parallel slot is left",
    "streams and tombstones empty": "all is booked and forgotten",
    "no unexplained drift": "a rebuild corrected balances only just after Redis had lost something",
}
METHOD = """\
`make chaos SEED=n` starts a whole Ops-Center on one machine as real processes: two sets of proxies
(two workers each, one set under `opscenter proxy`, the supervisor), drains, the control plane,
Valkey with its append-only file, PostgreSQL; before them a load of plain answers and streams over
all keys, of which some clients leave half-way, and behind them a fake provider, which writes a line
per request that it bills. Between Ops-Center and Redis lie cables, TCP proxies that can be spoilt.

The seed decides the settings and every fault with its time. Faults overlap as the dice will; what
was killed starts again as its supervisor would start it. 16 models fail in ways of their own
(errors, truncated and reset streams, no usage, usage of zero, a fallback, a free one); some
organisations have nearly no credits, some few parallel slots; keys, people, organisations and jobs
have budgets, and some organisations limits with windows and rates. Afterwards all faults end, the
load stops, and all must come to rest within 60 s.

The judge (`bench/chaos/checker.py`) imports nothing of the product. It reads the provider's bills,
the answers that clients saw, the payments and faults as they happened, every row of the ledger and
all of Redis; it prices with exact fractions and demands that no rule below has an exception. Each
of its rules is itself tested against an installation in which that one thing is wrong.
"""
LIMITS = """\
- All processes share one machine, its clock and its disk. PostgreSQL is killed, but its machine
  never loses power: it runs without `fsync`.
- An *orphan* is a request whose proxy died before the provider's usage came: it costs at most what
  had been noted, the rest is the operator's loss. Nobody can know it: the figures were in flight.
- The rate is that of a machine that also runs the load, the provider, both databases and whatever
  else was at work; it is no measure of the door. `bench/README.md` tells how that is measured.
"""


def page(report: Report) -> str:
    parts = [
        "# Chaos",
        "",
        f"**{_headline(report)}**",
        "This page is written from the JSON that a run leaves, by"
        " `python -m bench.chaos.report FILE --markdown docs/chaos.md`.",
        "",
        "## Method",
        "",
        METHOD,
        "## The run",
        "",
        *_table(("", ""), _run(report)),
        "",
        "## What was done to it",
        "",
        *_table(("fault", "what it is", "times"), _faults(report)),
        "",
        "## Verdict",
        "",
        *_table(("rule", "demands", "exceptions"), _verdict(report)),
        "",
        *_shown(report),
        "## What was counted",
        "",
        *_table(("", "count"), sorted((name, _number(n)) for name, n in report["counts"].items())),
        "",
        *_table(("clients saw", "count"), _seen(report)),
        "",
        "## Limits",
        "",
        LIMITS,
        "## Repeat it",
        "",
        *("```", report["command"], "```"),
    ]
    return "\n".join(parts) + "\n"


def _headline(report: Report) -> str:
    wrong = sum(report["differences"].values())
    billed, wipes = report["counts"].get("billed", 0), report["faults"].get("wipe", 0)
    return (
        f"{billed:,} billed requests, {report['kills']:,} kills, of which {wipes:,} lost all of"
        f" Redis: {wrong} differences in money."
    )


def _run(report: Report) -> Iterator[Sequence[str]]:
    machine, plan = report["machine"], report["plan"]
    billed = report["counts"].get("billed", 0)
    yield "seed", str(plan["seed"])
    yield "commit", f"`{machine['commit']}`"
    yield "machine", f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB"
    yield "busy before, as load average", str(machine["load_before"])
    yield "Redis", f"appendfsync {plan['appendfsync']}"
    yield "leases", f"{plan['lease_ms']} ms, renewed every {plan['renew_ms']} ms"
    yield "drains", str(plan["drains"])
    yield "faults spread over", f"{plan['seconds']:,.0f} s"
    yield "load for", f"{report['storm_s']:,.0f} s"
    rate = billed / max(report["storm_s"], 1)
    yield "requests billed", f"{billed:,} ({rate:,.0f} a second, outages included)"
    yield "kills", f"{report['kills']:,}"
    yield "losses of all of Redis", f"{report['wipes']:,}"
    yield "all at rest after the load ended", f"{report['drain_s']:.1f} s"
    yield "not at rest", report["restless"] or "nothing"
    yield "result", "every rule holds" if report["ok"] else "FAILED"


def _faults(report: Report) -> Iterator[Sequence[str]]:
    done = report["faults"]
    for kind, meaning in FAULTS.items():
        yield kind, meaning, _number(done.get(kind, 0))
    missed = sum(report["faults_that_found_no_victim"].values())
    yield "", "planned faults that found no victim, not counted above", _number(missed)


def _verdict(report: Report) -> Iterator[Sequence[str]]:
    for name, count in report["differences"].items():
        yield name, CHECKS[name], _number(count)


def _shown(report: Report) -> list[str]:
    told = [f"- {name}: {text}" for name, texts in report["shown"].items() for text in texts]
    told += [f"- {note}" for note in report["notes"]]
    for name, ends in report["ended_by_themselves"].items():
        ways = ", ".join(f"{how} ({n})" for how, n in Counter(ends).items())
        told.append(f"- {name} ended though nobody killed it: {ways}")
    return [*told, ""] if told else []


def _seen(report: Report) -> Iterator[Sequence[str]]:
    for name, count in sorted(report["clients_saw"].items()):
        yield name, _number(count)


def _number(count: int) -> str:
    return f"{count:,}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
