"""`kvstow verify-paper DIR`: does every number of the paper's suite stay within its tolerance?

Exit 0: all do. Exit 1: one line for each number that left its tolerance, each missing row and each
row of DIR/scoreboard.csv that the result rows no longer give. Exit 2: DIR cannot be used.
"""

import os
import statistics
import sys
from dataclasses import dataclass

if __package__ in (None, ""):  # run as a file: find the package from anywhere
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from analysis import paper, results as results_module, scoreboard, textio

JUDGED = ("abs", "rel", "range", "max", "min")
KERNEL = f"/law={results_module.KERNEL_CURVE_LAW}"
# scoreboard.csv keeps six significant digits.
STALE_RELATIVE = 1e-5


@dataclass(frozen=True)
class Verdict:
    """status: ok | miss | named (a suite row past its own tolerance) | missing | shown."""

    target: paper.Target
    status: str
    ours: float = None
    message: str = ""
    allowed: str = ""  # the tolerance in words


def judge(board, targets=None):
    """A Verdict for every target, in the order of targets.csv."""
    targets = targets or paper.targets()
    ours = {row["item"]: row["ours"] for row in board if row["ours"] is not None}
    return [_verdict(t, _rule_value(t, ours) if t.is_rule else ours.get(t.item)) for t in targets]


def _verdict(target, value):
    if value is None:
        if target.judge == "extra":
            return Verdict(target, "shown")
        what = "cannot be computed from the rows that are there" if target.is_rule else "no number"
        return Verdict(target, "missing", message=f"{target.item}: {what}")
    if target.judge in ("shown", "extra"):
        return Verdict(target, "shown", value)
    within, allowed = _within(target, value)
    if within:
        return Verdict(target, "ok", value)
    status = "named" if target.judge == "suite" else "miss"
    against = (
        ""
        if target.paper is None
        else (f", paper {target.paper:g}, difference {value - target.paper:+.4g}")
    )
    message = f"{target.item}: ours {value:.4g} {target.unit}{against}; allowed {allowed}"
    return Verdict(target, status, value, message, allowed)


def _within(target, value):
    """(inside?, the tolerance in words); a hair of slack for what six digits round away."""
    slack = 1e-9
    if target.judge == "range":
        low, high = target.bounds
        return low - slack <= value <= high + slack, f"{low:g} to {high:g} {target.unit}"
    limit = float(target.tolerance)
    if target.judge == "abs":
        return abs(value - target.paper) <= limit + slack, f"{limit:g} {target.unit} either way"
    if target.judge in ("rel", "suite"):
        error = 100.0 * abs(value / target.paper - 1.0)
        return error <= limit + slack, f"{limit:g} % either way (it is {error:.1f} %)"
    if target.judge == "max":
        return value <= limit + slack, f"at most {limit:g}"
    if target.judge == "min":
        return value >= limit - slack, f"at least {limit:g}"
    raise ValueError(f"targets.csv: {target.item}: unknown judge '{target.judge}'")


def fig12_errors(ours, suffix=""):
    """|ours / paper - 1| in percent of every capacity of Fig. 12 that is there, by item."""
    return {
        t.item: 100.0 * abs(ours[t.item + suffix] / t.paper - 1.0)
        for t in paper.targets()
        if t.judge == "suite" and t.item + suffix in ours
    }


def _rule_value(target, ours):
    """The number a rule is about, from the scoreboard; None where rows for it are missing."""
    _, figure, *rest = target.item.split("/")
    if figure == "fig12":
        errors = fig12_errors(ours)
        if not errors:
            return None
        if rest == ["median_absolute_error"]:
            return statistics.median(errors.values())
        return float(sum(e <= 25.0 for e in errors.values()))
    if figure == "fig18b":
        dataset, name = rest
        memory, kernel = (_over_blocks(ours, f"fig18b/{dataset}", end) for end in ("", KERNEL))
        if name == "largest_drop_memory_alone":
            values = list(memory.values())
            drops = [1 - later / earlier for earlier, later in zip(values, values[1:])]
            return 100.0 * max(0.0, *drops) if drops else None
        low, high = (int(n) for n in name.removeprefix("worst_of_").split("_to_"))
        curve = kernel or memory
        inside = [v for b, v in curve.items() if low <= b <= high]
        return max(inside) / min(curve.values()) if inside else None
    recompute = _over_blocks(ours, "fig19a/recompute_as_plotted")
    swap = _over_blocks(ours, "fig19a/swap_in_out")
    if not recompute:
        return None
    if rest == ["recompute_spread"]:
        return 100.0 * (max(recompute.values()) / min(recompute.values()) - 1.0)
    cheaper = [b for b in recompute if b in swap and swap[b] <= recompute[b]]
    return float(cheaper[0]) if cheaper else None


def _over_blocks(ours, prefix, suffix=""):
    """{block: value} of prefix/BLOCK + suffix, for the blocks that are there, ascending."""
    blocks = [int(r["block_size"]) for r in paper.table("fig18b_block_size")]
    return {b: v for b in blocks if (v := ours.get(f"{prefix}/{b}{suffix}")) is not None}


def stale_lines(recorded, board):
    """Lines for rows of a recorded scoreboard that differ from what the result rows give now."""
    now = {row["item"]: row["ours"] for row in board}
    then = {row["item"]: row["ours"] for row in recorded}
    lines = []
    for item in [*then, *(i for i in now if i not in then)]:
        if item not in now:
            lines.append(f"{item}: in scoreboard.csv, but the result rows do not give it")
        elif item not in then:
            lines.append(f"{item}: the result rows give it, but it is not in scoreboard.csv")
        elif then[item] is None or abs(then[item] - now[item]) > STALE_RELATIVE * max(
            1e-3, abs(now[item])
        ):
            lines.append(
                f"{item}: scoreboard.csv says {then[item]}, the result rows give {now[item]:.6g}"
            )
    return lines


def verify(directory):
    """(exit code, lines to print). Throws ResultsError for a directory that cannot be used."""
    path = os.path.join(directory, "scoreboard.csv")
    recorded = scoreboard.read(path) if os.path.exists(path) else None
    results = None
    if recorded is None or os.path.isdir(os.path.join(directory, "rows")):
        results = results_module.load(directory)
    return findings(results, recorded)


def findings(results, recorded):
    """(exit code, lines) from loaded results, a recorded scoreboard, or both (one may be None)."""
    board = scoreboard.build(results) if results is not None else None
    stale = stale_lines(recorded, board) if None not in (recorded, board) else []
    verdicts = judge(recorded if recorded is not None else board)

    lines = []
    for verdict in verdicts:
        if verdict.status == "missing":
            why = ""
            if results is not None and not verdict.target.is_rule:
                why = scoreboard.why_missing(results, verdict.target) or "not in scoreboard.csv"
                why = f" ({why})"
            lines.append(f"MISSING {verdict.message}{why}")
        elif verdict.status == "miss":
            lines.append(f"MISS    {verdict.message}")
        elif verdict.status == "named":
            lines.append(f"named   {verdict.message}; counted by rule/fig12")
    lines += [f"STALE   {line}" for line in stale]
    count = {s: sum(v.status == s for v in verdicts) for s in ("ok", "miss", "named", "missing")}
    judged = sum(v.target.judge in (*JUDGED, "suite") for v in verdicts)
    lines.append(
        f"verify-paper: {judged} judged: {count['ok']} within tolerance, {count['miss']} missed, "
        f"{count['named']} named outliers; {count['missing']} missing, {len(stale)} stale"
    )
    return (1 if count["miss"] or count["missing"] or stale else 0), lines


def main(arguments):
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: verify.py DIR", file=sys.stderr)
        return 2
    try:
        code, lines = verify(arguments[0])
    except results_module.ResultsError as error:
        print(f"verify-paper: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    textio.exit_with("verify-paper", main)
