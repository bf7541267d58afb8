"""What the samples of a run say: medians over its rounds, what a gateway adds, ratios. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

Row = Mapping[str, Any]  # one sample, as it stands in the results
SMALL_MS = 0.02  # differences of times below this are noise: no ratio is made of them


def of(rows: Iterable[Row], scene: str, gateway: str) -> list[Row]:
    """A gateway's samples of one scene, by rounds."""
    found = [row for row in rows if (row["scene"], row["gateway"]) == (scene, gateway)]
    return sorted(found, key=lambda row: row["round"])


def middle(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def plain(rows: Sequence[Row], scene: str, gateway: str, name: str) -> float | None:
    """The median of one figure."""
    return middle([row[name] for row in of(rows, scene, gateway)])


def cpu(rows: Sequence[Row], scene: str, gateway: str, roles: Sequence[str]) -> float | None:
    """Microseconds of CPU for each good answer, in processes of these roles."""
    samples = of(rows, scene, gateway)
    return middle([sum(row["cpu_us"].get(role, 0.0) for role in roles) for row in samples])


def added(rows: Sequence[Row], scene: str, gateway: str, name: str) -> float | None:
    """The gateway's time less that of the provider alone, in the same round at the same rate."""
    alone = {
        (row["round"], row["beside"]): row[name] for row in rows if row["gateway"] == "provider"
        and row["scene"] == scene
    }  # fmt: skip
    differences = []
    for row in of(rows, scene, gateway):
        base = alone.get((row["round"], gateway), alone.get((row["round"], "")))
        if base is not None:
            differences.append(row[name] - base)
    return middle(differences)


def full_core(rows: Sequence[Row], gateway: str) -> float | None:
    """Requests a second that a wholly busy core would make of what this one did."""
    samples = of(rows, "plain", gateway)
    return middle([row["per_second"] / max(row["gateway_core"], 0.01) for row in samples])


Ratio = Callable[[float | None, float | None], str]


def ratio(ours: float | None, theirs: float | None) -> str:
    """`2.5x` or `1/40`; a dash where there is nothing to divide."""
    if ours is None or theirs is None or ours <= 0 or theirs <= 0:
        return "–"
    times = ours / theirs
    if times > 0.5:
        return f"{times:.0f}x" if times >= 10 else f"{times:.2f}x"
    return f"1/{1 / times:.0f}" if times < 0.1 else f"1/{1 / times:.1f}"


def ratio_of_times(ours: float | None, theirs: float | None) -> str:
    """None of what is below the noise."""
    if ours is None or theirs is None or min(ours, theirs) < SMALL_MS:
        return "–"
    return ratio(ours, theirs)


def no_ratio(ours: float | None, theirs: float | None) -> str:
    return ""
