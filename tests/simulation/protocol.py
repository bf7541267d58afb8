"""What the modelled actors do, and how much goes wrong."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Protocol:
    """What the modelled actors do; a mutant switches one thing off."""

    journals_admission: bool = True
    journals_usage: bool = True  # before it settles
    redrives: bool = True
    reads_from_cursor: bool = True
    compares_cursor: bool = True
    compares_generation: bool = True
    generation_last: bool = True
    looks_at_run: bool = True
    resync_publishes: bool = True
    checks_fence: bool = True
    resets_unbooked: bool = True  # budgets that the ledger knows nothing of
    orphans_confirm_truths: bool = False
    reaps: bool = True
    sees_who_books: bool = True  # of the credits that leave a pool
    sees_what_waits: bool = True


@dataclass(slots=True)
class Chaos:
    """How likely things go wrong at each chance; drawn per seed, so that runs differ in kind."""

    reply_lost: float = 0.0
    late: float = 0.0  # a call that is given up and still happens later
    stop: float = 0.0
    weights: dict[str, float] = field(default_factory=dict)
