"""report.html: one self-contained page with every figure, the paper's numbers and the misses.

`python3 analysis/report.py DIR` (from anywhere; or `python3 -m analysis.report DIR`) reads DIR/rows
and writes DIR/report.html, DIR/figures/*.png and *.svg, DIR/scoreboard.csv and DIR/summary.csv.
"""

import base64
import concurrent.futures
import os
import sys

if __package__ in (None, ""):  # run as a file: find the package from anywhere
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

try:
    import jinja2
    import yaml

    from analysis import (
        figures,
        report_cells,
        report_tables,
        results as results_module,
        scoreboard,
        tables,
    )
    from analysis import textio, verify
    from analysis.figures import style
except ModuleNotFoundError as missing:
    if __name__ != "__main__":
        raise
    print(f"report: {sys.executable}: No module named '{missing.name}' (make setup installs it)", file=sys.stderr)
    sys.exit(2)

HERE = os.path.dirname(os.path.abspath(__file__))
WORKERS = 2  # drawing is all the time there is, and halves on two cores


def write_report(directory):
    """Writes the report and all beside it; returns the path of report.html. Throws ResultsError."""
    results = results_module.load(directory)
    board = scoreboard.build(results)
    textio.write(os.path.join(directory, "scoreboard.csv"), scoreboard.to_csv(board))
    textio.write(os.path.join(directory, "summary.csv"), tables.summary_csv(results))
    images = draw_all(results)
    path = os.path.join(directory, "report.html")
    textio.write(path, html(results, board, images))
    return path


def draw_all(results):
    """{figure id: SVG bytes}; writes DIR/figures/ID.png and ID.svg."""
    target = os.path.join(results.directory, "figures")
    os.makedirs(target, exist_ok=True)
    images = {}
    with concurrent.futures.ProcessPoolExecutor(
        WORKERS, initializer=_keep, initargs=(results,)
    ) as pool:
        names = figures.ids(results)
        for name, pair in zip(names, pool.map(_draw, names)):
            paths = [os.path.join(target, f"{name}.{kind}") for kind in ("png", "svg")]
            if pair is None:  # no runs: a figure of earlier runs would be stale
                for path in filter(os.path.exists, paths):
                    os.remove(path)
                continue
            for path, content in zip(paths, pair):
                textio.write(path, content)
            images[name] = pair[1]
    return images


def _keep(results):
    _draw.results = results


def _draw(name):
    figure = figures.draw(_draw.results, name)
    return None if figure is None else style.render(figure)


def html(results, board, images):
    """The page as text."""
    verdicts = verify.judge(board)
    with open(os.path.join(HERE, "remarks.yaml"), encoding="utf-8") as file:
        remarks = yaml.safe_load(file)
    with open(os.path.join(HERE, "report.css"), encoding="utf-8") as file:
        css = file.read()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        css=jinja2.utils.markupsafe.Markup(css),
        runs=f"{len(results.runs):,}",
        fake=any(run.raw.get("build", {}).get("fake") for run in results.runs),
        builds=len(_builds(results)),
        headline=report_tables.headline(results, board),
        reproduces=is_reproduction(results),
        chips=_chips(verdicts),
        misses=_misses(results, verdicts),
        remarks_all=remarks["all"],
        sections=_sections(results, board, verdicts, images, remarks),
        manifest=_manifest(results),
    )


def _chips(verdicts):
    def count(*statuses):
        return sum(v.status in statuses for v in verdicts)

    chips = [(f"{count('ok')} numbers within tolerance", "good")]
    for status, text, kind in (
        ("miss", "out of tolerance", "bad"),
        ("named", "single capacities past 25 %", "note"),
        ("missing", "without a number", "bad"),
    ):
        if count(status):
            chips.append((f"{count(status)} {text}", kind))
    return chips + [(f"{count('shown')} shown, not judged", "dim")]


def _misses(results, verdicts):
    """Lines of the section on misses; a figure that was not run at all is one line."""
    lines, unrun = [], {}
    for verdict in verdicts:
        figure = verdict.target.figure
        if verdict.status == "missing" and not results.select(figure):
            unrun[figure] = unrun.get(figure, 0) + 1
        elif verdict.status in ("miss", "named", "missing"):
            lines.append(_miss(results, verdict))
    for figure, count in unrun.items():
        why = f"not run: {count} numbers are missing"
        lines.append({"item": f"fig{figure}", "paper": "", "ours": "", "why": why})
    return lines


def _miss(results, verdict):
    target = verdict.target
    if verdict.status == "missing":
        what = "rows are missing" if target.is_rule else scoreboard.why_missing(results, target)
        why = f"no number: {what}"
    else:
        why = f"allowed: {verdict.allowed}"
        if verdict.status == "named":
            why += "; an outlier that the rule for Fig. 12 counts"
        if target.note:
            why += f"; {target.note}"
    return {
        "item": target.item,
        "paper": report_cells.number(target.paper),
        "ours": report_cells.number(verdict.ours),
        "why": why,
    }


def is_reproduction(results):
    """Whether any figure of the paper was run; else the page is about the user's own experiments."""
    return any(f"fig{name}" in figures.PAPER for name in results.figures())


def _sections(results, board, verdicts, images, remarks):
    reproduces = is_reproduction(results)
    sections = [{"id": "misses", "title": "What missed"}] if reproduces else []
    for name in figures.ids(results):
        image = images.get(name)
        # Beyond the paper: shown where there are rows.
        if not (reproduces if name in figures.PAPER else image):
            continue
        sections.append(
            {
                "id": name,
                "title": figures.title(results, name),
                "image": base64.b64encode(image).decode() if image else None,
                "expects_image": True,
                "tables": report_tables.tables_of(name, results, board, verdicts),
                "remarks": remarks.get(name, []),
                "verdict": _section_verdict(name, verdicts),
            }
        )
    laws = report_tables.other_laws(board)
    if laws:
        sections.append(
            {
                "id": "laws",
                "title": "Other step-time laws",
                "tables": [laws],
                "remarks": ["Not judged: the scoreboard uses the max-form law of the 2023 engine."],
            }
        )
    return sections


def _section_verdict(name, verdicts):
    """(text, class) for the index, or None where nothing is judged."""
    mine = [
        v
        for v in verdicts
        if v.target.judge not in ("shown", "extra") and f"fig{v.target.figure}" == name
    ]
    if not mine:
        return None
    good = sum(v.status == "ok" for v in mine)
    bad = any(v.status in ("miss", "missing") for v in mine)
    return f"{good}/{len(mine)}", "bad" if bad else "good" if good == len(mine) else "note"


def _builds(results):
    """The distinct builds behind the rows, each as one line of text."""
    builds = {tuple(sorted(run.raw.get("build", {}).items())) for run in results.runs}
    return sorted(", ".join(f"{k} {v}" for k, v in build) for build in builds)


def _manifest(results):
    """What the results say about themselves: [(name, text)]."""
    pairs = [("runs", f"{len(results.runs):,}"), ("figures", ", ".join(results.figures()))]
    pairs += [("build", text) for text in _builds(results)]
    for name, experiment in sorted(results.manifest.get("experiments", {}).items()):
        pairs.append((name, f"{experiment.get('file')}, {len(experiment.get('runs', [])):,} runs"))
    return pairs


def main(arguments):
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: report.py DIR", file=sys.stderr)
        return 2
    try:
        path = write_report(arguments[0])
    except (results_module.ResultsError, OSError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    print(path)
    return 0


if __name__ == "__main__":
    textio.exit_with("report", main)
