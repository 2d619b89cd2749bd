"""The tables of report.html: paper | ours | difference for every figure, and what goes with it."""

import statistics

from analysis import figures, measures, paper, report_beyond, verify
from analysis.figures import memory, style
from analysis.report_cells import cell, number, percent
from analysis.results import JUDGED_LAW

STATUS = {
    "ok": ("within", "good"),
    "miss": ("out", "bad"),
    "named": ("named", "note"),
    "missing": ("missing", "bad"),
    "shown": ("", "dim"),
}
THRESHOLDS = ("0.2", "0.5")
FOLDED_ROWS = 24  # longer tables open on demand


def headline(results, board):
    """The paper's claim in four numbers, those that have rows: [{value, text, paper}]."""
    ours = {row["item"]: row for row in board}
    cards = []
    for item, text in (
        ("fig2/vllm/token_states", "of the KV pool holds tokens under vLLM"),
        ("fig2/orca-max/token_states", "under Orca (Max)"),
    ):
        if item in ours:
            cards.append(
                {
                    "value": f"{ours[item]['ours']:.1f} %",
                    "text": text,
                    "paper": f"{ours[item]['paper']:g} %",
                }
            )
    for lower in ("orca-oracle", "orca-max"):
        mine = measures.fig12_ratio(results, "a", 0.5, "vllm", lower)
        if mine.ok:
            theirs = paper.fig12_capacity("a", 0.5, "vllm") / paper.fig12_capacity("a", 0.5, lower)
            cards.append(
                {
                    "value": f"{mine.value:.2f}x",
                    "paper": f"{theirs:.2f}x",
                    "text": f"the load of {style.label(lower)} at 0.5 s/token (OPT-13B, ShareGPT)",
                }
            )
    return cards


def tables_of(name, results, board, verdicts):
    """Every table of a section: [{caption, head, rows, folded}]."""
    extra = {
        "fig2": _ledger,
        "fig11": _lengths,
        "fig12": _fig12,
        "real": report_beyond.real,
        "breakeven": report_beyond.breakeven,
    }
    if name.startswith("own-"):
        return [report_beyond.own(results, figures.own_experiments(results)[name])]
    tables = scoreboard_tables(name, board, verdicts)
    if name in extra:
        more = extra[name](results, board, verdicts)
        tables = more + tables if name == "fig12" else tables + more
    return [t for t in tables if t["rows"]]


def scoreboard_tables(name, board, verdicts):
    """paper | ours | 95 % interval | difference | verdict; a long table is folded under its rules."""
    by_item = {row["item"]: row for row in board}
    rules, rows = [], []
    for verdict in verdicts:
        target = verdict.target
        if f"fig{target.figure}" != name:
            continue
        row = by_item.get(target.item)
        if row is None and (target.judge == "extra" or verdict.status == "missing" and not by_item):
            continue
        (rules if target.is_rule else rows).append(_scoreboard_line(name, verdict, row))
        if name != "fig12":  # whose laws have a section of their own
            laws = [i for i in by_item if i.startswith(target.item + "/law=")]
            rows += [_law_line(name, target, by_item[item]) for item in laws]
    head = ("number", "paper", "ours", "95 % interval", "difference", "unit", "")
    folded = len(rows) > FOLDED_ROWS
    every = {"caption": "Every number" if folded else "", "head": head, "folded": folded}
    whole = {"caption": "Judged as a whole", "head": head, "folded": False}
    return [{**whole, "rows": rules}, {**every, "rows": rows}]


def _scoreboard_line(name, verdict, row):
    target = verdict.target
    text, kind = STATUS[verdict.status]
    item = target.item.removeprefix("rule/").removeprefix(name + "/")
    wanted = number(target.paper) if target.paper is not None else _bounds(target)
    return [
        cell(item.replace("_", " ")),
        cell(wanted),
        cell(number(verdict.ours)),
        cell(_interval(row), "dim"),
        cell(_difference(target, verdict.ours)),
        cell(target.unit, "dim"),
        cell(text, kind),
    ]


def _law_line(name, target, row):
    """The same number under another step-time law; not judged."""
    return [
        cell(row["item"].removeprefix(name + "/").replace("_", " "), "dim"),
        cell(""),
        cell(number(row["ours"]), "dim"),
        cell(_interval(row), "dim"),
        cell(_difference(target, row["ours"]), "dim"),
        cell(target.unit, "dim"),
        cell(""),
    ]


def _bounds(target):
    """The paper's range, or a rule's limit, where there is no single value."""
    if ".." in target.tolerance:
        return "{:g} to {:g}".format(*target.bounds)
    return {"max": "≤ ", "min": "≥ "}.get(target.judge, "–") + target.tolerance


def _interval(row):
    if row is None or row["ci_low"] is None:
        return ""
    return f"{number(row['ci_low'])} to {number(row['ci_high'])}"


def _difference(target, ours):
    if target.paper is None or ours is None:
        return ""
    if target.judge == "abs":
        return f"{round(ours - target.paper, 2) + 0.0:+.2f}"
    return percent(ours / target.paper - 1, 1)


def _ledger(results, _board, _verdicts):
    names = [text for text, _ in memory.LEDGER.values()]
    rows = [
        [cell(style.label(system)), *(cell(number(v)) for v in shares.values())]
        for system, shares in memory.ledger_table(results)
    ]
    return [
        {
            "caption": "The waste ledger behind it, % of the pool (window mean)",
            "head": ("system", *names),
            "rows": rows,
            "folded": False,
        }
    ]


def _lengths(results, _board, _verdicts):
    """Mean lengths of what was run, beside the paper's."""
    rows = []
    for printed in paper.table("fig11_mean_lengths"):
        ours = measures.trace_means(results, printed["dataset"])
        if ours is None:
            continue
        for kind, mean in zip(("prompt", "output"), ours):
            theirs = float(printed[f"{kind}_tokens"])
            rows.append(
                [
                    cell(f"{printed['dataset']}, mean {kind}"),
                    cell(number(theirs)),
                    cell(number(mean)),
                    cell(percent(mean / theirs - 1, 2)),
                    cell(f"{ours[2]:,}", "dim"),
                ]
            )
    head = ("tokens", "paper", "ours", "difference", "requests")
    return [{"caption": "", "head": head, "rows": rows, "folded": False}]


def _fig12(results, board, verdicts):
    ours = {row["item"]: row["ours"] for row in board}
    return [_capacities(ours, verdicts), _ratios(results), _true_crossings(results, ours)]


def _capacities(ours, verdicts):
    """One line per panel and threshold: ours and the error against the paper, per system."""
    status = {v.target.item: v.status for v in verdicts}
    rows = []
    for panel, (model, dataset) in paper.PANELS.items():
        for threshold in THRESHOLDS:
            cells = []
            for system in paper.SYSTEMS:
                item = f"fig12/{panel}/{model}/{dataset}/{threshold}/{system}"
                wanted = paper.fig12_capacity(panel, threshold, system)
                if wanted is None:
                    cells.append(cell(""))
                elif item not in ours:
                    cells.append(cell("missing", "bad"))
                else:
                    error = percent(ours[item] / wanted - 1, 0)
                    cells.append(
                        cell(
                            f"{wanted:.3g} → {ours[item]:.3g} ({error})",
                            "note" if status[item] == "named" else "",
                        )
                    )
            if any(c["text"] for c in cells):
                rows.append([cell(f"{panel}  {model}, {dataset}, {threshold}"), *cells])
    return {
        "caption": "Sustained req/s at a threshold (s/token): paper → ours",
        "dense": True,
        "head": ("panel", *(style.label(s) for s in paper.SYSTEMS)),
        "rows": rows,
        "folded": False,
    }


def _ratios(results):
    """vLLM over each Orca: the paper's, ours, and ours over finer rates."""
    rows = []
    for panel, (model, dataset) in paper.PANELS.items():
        for threshold in THRESHOLDS:
            if paper.fig12_capacity(panel, threshold, "vllm") is None:
                continue
            cells = []
            for lower in ("orca-oracle", "orca-max"):
                theirs = [paper.fig12_capacity(panel, threshold, s) for s in ("vllm", lower)]
                mine = measures.fig12_ratio(results, panel, float(threshold), "vllm", lower)
                true = [
                    measures.true_crossing(results, panel, float(threshold), s).value
                    for s in ("vllm", lower)
                ]
                cells += [
                    cell(number(theirs[0] / theirs[1])),
                    cell(number(mine.value)),
                    cell(f"{number(mine.low)} to {number(mine.high)}" if mine.low else "", "dim"),
                    cell(number(true[0] / true[1]) if None not in true else "–", "dim"),
                ]
            rows.append([cell(f"{panel}  {model}, {dataset}, {threshold}"), *cells])
    head = ["panel"]
    for lower in ("Oracle", "Max"):
        head += [f"vLLM / {lower}: paper", "ours", "95 %", "true"]
    return {"caption": "How much more vLLM sustains", "head": head, "rows": rows, "folded": False}


def _true_crossings(results, ours):
    """Capacities over finer rates, where a refining search ran."""
    rows = []
    for target in paper.targets():
        if target.judge != "suite":
            continue
        _, panel, model, dataset, threshold, system = target.item.split("/")
        true = measures.true_crossing(results, panel, float(threshold), system)
        if true.ok:
            rows.append(
                [
                    cell(f"{panel}  {model}, {dataset}, {threshold}, {system}"),
                    cell(number(target.paper)),
                    cell(number(ours.get(target.item))),
                    cell(number(true.value)),
                    cell(percent(true.value / target.paper - 1, 1)),
                ]
            )
    return {
        "caption": "True crossings, over finer rates",
        "head": ("capacity", "paper", "ours, paper's rates", "ours, true", "true against paper"),
        "rows": rows,
        "folded": True,
    }


def other_laws(board):
    """Per other step-time law the errors of its Fig. 12 capacities, and the judged law's on the same.

    None without such rows.
    """
    ours = {row["item"]: row["ours"] for row in board}
    judged = verify.fig12_errors(ours)
    rows = [_law_errors(f"{JUDGED_LAW} (judged)", judged, judged)]
    for law in sorted({item.rsplit("/law=", 1)[1] for item in ours if "/law=" in item}):
        errors = verify.fig12_errors(ours, f"/law={law}")
        if errors:
            rows.append(_law_errors(law, errors, judged))
    if len(rows) < 2:
        return None
    return {
        "caption": "Error of the Fig. 12 capacities",
        "head": ("law", "capacities", "median error", "judged law's", "largest", "within 25 %"),
        "rows": rows,
        "folded": False,
    }


def _law_errors(law, errors, judged):
    same = [judged[item] for item in errors if item in judged]
    return [
        cell(law),
        cell(str(len(errors))),
        cell(f"{statistics.median(errors.values()):.1f} %" if errors else "–"),
        cell(f"{statistics.median(same):.1f} %" if same else "–", "dim"),
        cell(f"{max(errors.values()):.0f} %" if errors else "–"),
        cell(str(sum(e <= 25 for e in errors.values()))),
    ]
