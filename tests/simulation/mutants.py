"""Single changes, each of which takes away one thing that keeps the money exact. A simulation that
does not notice one of them proves nothing about it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from control.books.booking import Booked, Verdict, judge
from control.books.entries import Entry
from tests.simulation.ledger import Judge
from tests.simulation.lua import product_texts
from tests.simulation.protocol import Protocol


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    changes: Sequence[tuple[str, str, str]] = ()  # script or * for all, text, what it becomes
    protocol: Protocol = field(default_factory=Protocol)
    rule: Judge = judge

    def texts(self) -> Mapping[str, bytes]:
        """The product's scripts with the change; a text that is nowhere is an error."""
        texts = dict(product_texts())
        for script, old, new in self.changes:
            found = [n for n in texts if script in (n, "*") and old.encode() in texts[n]]
            if not found:
                raise AssertionError(f"{self.name}: no script has {old!r} any more")
            for name in found:
                texts[name] = texts[name].replace(old.encode(), new.encode())
        return texts


def by_id_alone(entry: Entry, booked: Sequence[Booked]) -> Verdict:
    """What is known is a repetition and touched nothing."""
    return judge(entry, booked) if not booked else Verdict(None, entry.kind, 0, 0)


def repetition_refunds(entry: Entry, booked: Sequence[Booked]) -> Verdict:
    """No late truth about an orphan is ever booked."""
    touched = 0 if entry.late else entry.cost
    return judge(entry, booked) if not booked else Verdict(None, entry.kind, 0, touched)


def never_late(entry: Entry, booked: Sequence[Booked]) -> Verdict:
    """Takes each entry for one that touched Redis."""
    verdict = judge(entry, booked)
    missing = entry.cost if entry.late else 0
    return Verdict(verdict.phase, verdict.kind, verdict.amount, verdict.excess + missing)


TOMB = "redis.call('HSET', tombs, rid, '1')"
POSITIVE = "local fits = level.left and (want == 0 or level.left - want >= 0)"
SCRIPTED = [
    Mutant("no tombstone", [("*", TOMB, "")]),
    Mutant(
        "no look at the tombstone",
        [("settle", "if redis.call('HEXISTS', tombs, rid) == 1", "if false")],
    ),
    Mutant("no late flag", [("settle", "local late = '1'", "local late = '0'")]),
    Mutant(
        "outbox rows in any order",
        [("adjust", "if not (first == applied + 1 and last >= first)", "if false")],
    ),
    Mutant(
        "a NaN passes",
        [
            (
                "*",
                "return match(text, '^-?%d+$') and tonumber(text)",
                "return tonumber(text)",
            ),
            ("admit", POSITIVE, "local fits = not (level.left and level.left - want < 0)"),
        ],
    ),
    Mutant("no zero case of neg", [("*", "if text == '0' then return text end", "")]),
    Mutant("no lease", [("admit", "redis.call('ZADD', leases, digits(now + lease_ms), rid)", "")]),
    Mutant("renew does not extend", [("renew", "redis.call('ZADD', leases, ends, row[1])", "")]),
    Mutant(
        "renew forgets the checkpoint",
        [("renew", "hold_text(checkpoint, hold.items", "hold_text(hold.checkpoint, hold.items")],
    ),
    Mutant(
        "renew takes more and does not note it",
        [("renew", "item.held = digits(tonumber(item.held) + extra)", "")],
    ),
    Mutant(
        "the hold is not given back",
        [("*", "redis.call('HINCRBY', item.owner, item.meter .. '.h', neg(item.held))", "")],
    ),
    Mutant(
        "budgets do not count",
        [("*", "redis.call('HINCRBY', item.owner, item.meter .. '.u', text)", "")],
    ),
    Mutant(
        "owners need not be declared",
        [("*", "if not owners[owner] then return false end", "")],
    ),
    Mutant(
        "amounts are not checked",
        [("settle", "if not (amount(cost) and amount(held) and", "if false and (true and")],
    ),
    Mutant(
        "a fence is no hindrance",
        [("admit", "if not state[1] or state[2] then", "if not state[1] then")],
    ),
    Mutant(
        "resync forgets what came after the cursor",
        [("resync", "figure - (spent[name] or 0)", "figure")],
    ),
    Mutant("resync forgets living holds", [("resync", "digits(held[name] or 0)", "'0'")]),
    Mutant("resync leaves the outbox to be applied again", [("resync", "'adjseq', ARGV[2], ", "")]),
    Mutant(
        "reap does not look at the lease again",
        [("reap", "if ends and ends <= now then", "if ends then")],
    ),
    Mutant(
        "a repetition of admit holds twice",
        [("admit", "redis.call('HGET', holds, rid)", "false")],
    ),
    Mutant(
        "ack keeps tombstones", [("ack", "redis.call('HDEL', tombs", "redis.call('HMGET', tombs")]
    ),
    Mutant("ack trims what is not booked", [("ack", "'MINID', ARGV[3]", "'MAXLEN', '0'")]),
    Mutant(
        "an older record overwrites a newer", [("publish", "if not (offered >= has)", "if false")]
    ),
    Mutant(
        "a reservation takes what is held",
        [("reserve", "if not again and not (left and left - want >= 0) then", "if not left then")],
    ),
    Mutant("a reservation is made again", [("reserve", "if not again then", "if true then")]),
    Mutant(
        "a change leaves its reservation",
        [("adjust", "\n  give_back(holds, name, hold)", "\n  redis.call('HDEL', holds, name)")],
    ),
    Mutant("a revoked key is admitted", [("admit", "if k[2] ~= 'active' then", "if false then")]),
]
MODELLED = [
    Mutant("reads from the start of the stream", protocol=Protocol(reads_from_cursor=False)),
    Mutant("no compare-and-set of the cursor", protocol=Protocol(compares_cursor=False)),
    Mutant(
        "no look at the generation before booking", protocol=Protocol(compares_generation=False)
    ),
    Mutant("admissions are not journaled", protocol=Protocol(journals_admission=False)),
    Mutant("usage is not journaled before it is settled", protocol=Protocol(journals_usage=False)),
    Mutant("nothing is re-driven", protocol=Protocol(redrives=False)),
    Mutant(
        "the generation is written first",
        protocol=Protocol(generation_last=False, checks_fence=False),
    ),
    Mutant("rebuilds are not fenced from each other", protocol=Protocol(checks_fence=False)),
    Mutant("another run of the server is not noticed", protocol=Protocol(looks_at_run=False)),
    Mutant("records are not published after a loss", protocol=Protocol(resync_publishes=False)),
    Mutant("unbooked budgets keep what was lost", protocol=Protocol(resets_unbooked=False)),
    Mutant("an orphan's row confirms the truth", protocol=Protocol(orphans_confirm_truths=True)),
    Mutant("nothing is reaped", protocol=Protocol(reaps=False)),
    Mutant("gives back what is being booked", protocol=Protocol(sees_who_books=False)),
    Mutant("gives back what Redis has to learn", protocol=Protocol(sees_what_waits=False)),
]
BOOKED = [
    Mutant("dedupe by id alone", rule=by_id_alone),
    Mutant("no correction of an orphan", rule=repetition_refunds),
    Mutant("the ledger ignores the late flag", rule=never_late),
]
MUTANTS = SCRIPTED + MODELLED + BOOKED
