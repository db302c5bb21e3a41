"""What came out, for people and programs: the table in text, JSON, one page of HTML, the page of docs/."""

import html
import json
import re

from . import tap
from .verdicts import RUN

RESULTS = ("passed", "failed", "skipped", "todo")


def known_points(run):
    return sum(1 for name in run.known if name != RUN)


def unknown_problem(run):
    return run.problem if RUN not in run.known else ""


def good(run):
    return not run.failed() and not unknown_problem(run)


def remark(run):
    if run.problem:
        return run.problem + (" (known)" if RUN in run.known else "")
    if run.output.skipped:
        return f"all skipped: {run.output.skipped}"
    return ""


def cells(run):
    known = known_points(run)
    return [str(run.output.count("passed")), str(len(run.failed())) + (f" +{known}" if known else ""),
            str(run.output.count("skipped"))]


def aligned_table(rows, right):
    """Lines of a table; the columns in `right` to the right."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return ["  ".join(cell.rjust(w) if n in right else cell.ljust(w) for n, (cell, w) in enumerate(zip(row, widths))).rstrip()
            for row in rows]


def by_image(runs):
    images = {}
    for run in runs:
        images.setdefault(run.image.name, []).append(run)
    return images


def differences(runs):
    """[(image, its runs, [(point, [Point or None])])] for images whose runs disagree."""
    out = []
    for image, of in by_image(runs).items():
        rows = [(name, row) for name, row in tap.aligned([run.output for run in of]) if tap.differs(row)]
        if rows:
            out.append((image, of, rows))
    return out


def result(run, point):
    if point is None:
        return "has it not"
    return "failed (known)" if point.name in run.known else point.result


def text(runs):
    machines = list(dict.fromkeys(run.machine.name for run in runs))
    lines = []
    for machine in machines:
        of = [run for run in runs if run.machine.name == machine]
        rows = [[machine, "passed", "failed", "skipped", "seconds", ""]]
        rows += [[run.image.name, *cells(run), f"{run.seconds:.1f}", remark(run)] for run in of]
        known = sum(known_points(run) for run in of)
        rows.append(["all", str(sum(r.output.count("passed") for r in of)),
                     str(sum(len(r.failed()) for r in of)) + (f" +{known}" if known else ""),
                     str(sum(r.output.count("skipped") for r in of)), f"{sum(r.seconds for r in of):.1f}", ""])
        lines += aligned_table(rows, {1, 2, 3, 4})
        if known:
            lines.append(f"(+{known}: known; roms/conformance/verdicts.tsv says who is right)")
        lines.append("")
    for run in runs:
        for point in run.failed():
            lines.append(f"{run.machine.name} {run.image.name}: not ok {point.number} - {point.name}")
            lines += [f"    {note}" for note in point.notes]
    for image, of, rows in differences(runs):
        for name, row in rows:
            lines.append(f"differs {image}: {name}: " + ", ".join(
                f"{run.machine.name} {result(run, point)}" for run, point in zip(of, row)))
    return "\n".join(lines).rstrip() + "\n"


def as_json(runs):
    def point(run, p):
        entry = {"number": p.number, "name": p.name if p.named else None, "result": p.result}
        if p.reason:
            entry["reason"] = p.reason
        if p.notes:
            entry["notes"] = p.notes
        if p.name in run.known:
            entry["verdict"] = {"section": run.known[p.name].section, "words": run.known[p.name].words}
        return entry

    machines = {run.machine.name: run.machine.words for run in runs}
    return json.dumps({
        "format": 1,
        "machines": [{"name": name, "command": words} for name, words in machines.items()],
        "runs": [{
            "machine": run.machine.name, "image": run.image.name, "title": run.output.title or run.image.title,
            "processors": run.image.processors, "seconds": round(run.seconds, 2), "plan": run.output.plan,
            "skipped": run.output.skipped or None, "problem": run.problem or None, "good": good(run),
            **{result: run.output.count(result) for result in RESULTS},
            "points": [point(run, p) for p in run.output.points]} for run in runs],
        "differences": [{"image": image, "point": name,
                         "results": {run.machine.name: p.result if p else None for run, p in zip(of, row)}}
                        for image, of, rows in differences(runs) for name, row in rows],
    }, indent=1) + "\n"


STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --paper: #fff; --line: #d5dae0; --soft: #f3f5f7; --passed: #1a7f37;
  --failed: #c62828; --skipped: #6b7480; --known: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --text: #dde3ea; --paper: #14181d; --line: #353c45; --soft: #1d232a;
  --passed: #57c26f; --failed: #ff7b72; --skipped: #8b95a1; --known: #e0b341; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--text); background: var(--paper); max-width: 75rem; margin: 2rem auto;
  padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid var(--line); padding: .2rem .7rem .2rem 0; text-align: left; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .4rem 0; padding: .2rem .8rem; background: var(--soft); }
summary { cursor: pointer; } pre { margin: .1rem 0 .3rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.passed { color: var(--passed); } .failed { color: var(--failed); font-weight: 600; } .skipped, .none { color: var(--skipped); }
.known, .todo { color: var(--known); }
"""


def as_html(runs):
    e = html.escape

    def cell(run, point):
        if point is None:
            return '<td class="none">-</td>'
        kind = "known" if point.name in run.known else point.result
        words = {"known": "failed, known"}.get(kind, kind)
        more = [point.reason] if point.reason else []
        more += point.notes if point.result == "failed" else []
        if kind == "known":
            more.append(f"SDM {run.known[point.name].section}: {run.known[point.name].words}")
        return f'<td class="{kind}">{words}' + (f"<pre>{e(chr(10).join(more))}</pre>" if more else "") + "</td>"

    out = ["<!doctype html>", '<html lang="en"><head><meta charset="utf-8">',
           '<meta name="viewport" content="width=device-width, initial-scale=1">', "<title>Conformance corpus</title>",
           f"<style>{STYLE}</style></head><body>", "<h1>Conformance corpus</h1>"]
    machines = {run.machine.name: run.machine.words for run in runs}
    for name, words in machines.items():
        of = [run for run in runs if run.machine.name == name]
        out += [f"<h2>{e(name)}</h2>", f"<p><code>{e(' '.join(words))}</code></p>",
                '<table><tr><th>image<th class="n">passed<th class="n">failed<th class="n">known<th class="n">skipped'
                '<th class="n">seconds<th></tr>']
        for run in of:
            numbers = [("passed", run.output.count("passed")), ("failed", len(run.failed())), ("known", known_points(run)),
                       ("skipped", run.output.count("skipped"))]
            out.append(f'<tr><td><a href="#{e(run.image.name)}">{e(run.image.name)}</a>' + "".join(
                f'<td class="n {kind if number else "none"}">{number}' for kind, number in numbers) +
                f'<td class="n">{run.seconds:.1f}<td class="{"failed" if unknown_problem(run) else "skipped"}">{e(remark(run))}</tr>')
        out.append("</table>")
    out.append("<h2>Points</h2>")
    for image, of in by_image(runs).items():
        rows = tap.aligned([run.output for run in of])
        bad = any(not good(run) for run in of) or any(tap.differs(row) for _, row in rows)
        title = of[0].output.title or of[0].image.title
        out += [f'<details id="{e(image)}"{" open" if bad else ""}><summary><b>{e(image)}</b> {e(title)}</summary>',
                "<table><tr><th>point" + "".join(f"<th>{e(run.machine.name)}" for run in of) + "</tr>"]
        out += [f"<tr><td>{e(name)}" + "".join(cell(run, point) for run, point in zip(of, row)) + "</tr>" for name, row in rows]
        out += ["</table>", *(f'<p class="failed">{e(run.machine.name)}: {e(run.problem)}</p>' for run in of if run.problem),
                "</details>"]
    return "\n".join(out) + "\n</body></html>\n"


BEGIN, END = "<!-- made by tools/corpus --page -->", "<!-- end -->"


def page(runs, old):
    """The text `old` of a page with what stands between the two marks made anew; None without marks."""
    machines = list(dict.fromkeys(run.machine.name for run in runs))
    images = by_image(runs)
    lines = ["| image | about | " + " | ".join(machines) + " |", "| --- | --- |" + " --- |" * len(machines)]
    for image, of in images.items():
        scores = {run.machine.name: score(run) for run in of}
        title = next((run.output.title for run in of if run.output.title), of[0].image.title)
        lines.append(f"| `{image}` | {title} | " + " | ".join(scores.get(m, "") for m in machines) + " |")
    totals = []
    for machine in machines:
        of = [run for run in runs if run.machine.name == machine]
        totals.append(f"{sum(r.output.count('passed') for r in of)} / {sum(r.output.count('failed') for r in of)} / "
                      f"{sum(r.output.count('skipped') for r in of)}")
    lines += ["| all | | " + " | ".join(totals) + " |", ""]
    for machine in machines:
        found = {}
        for run in runs:
            if run.machine.name == machine:
                for name, verdict in run.known.items():
                    found.setdefault(id(verdict), (run.image.name, verdict, []))[2].append(name)
        loose = [(run.image.name, point.name) for run in runs if run.machine.name == machine for point in run.failed()]
        if found or loose:
            lines += [f"### {machine}", "", "| image | points that fail | SDM | what it does, and what is right |", "| --- | --- | --- | --- |"]
        for image, verdict, names in found.values():
            lines.append(f"| `{image}` | {'<br>'.join(cut(names))} | {verdict.section} | {verdict.words} |")
        lines += [f"| `{image}` | {cell_text(name)} | | not yet judged |" for image, name in loose]
        if found or loose:
            lines.append("")
    body = "\n".join(lines)
    before, mark, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{body}\n{END}{after}" if mark and end else None


def score(run):
    if run.output.skipped:
        return "skipped"
    text = f"{run.output.count('passed')} / {run.output.count('failed')} / {run.output.count('skipped')}"
    return text + (" (no end)" if run.problem else "")


def cut(names, most=6):
    shown = [cell_text(name) for name in names[:most]]
    return shown + ([f"and {len(names) - most} more"] if len(names) > most else [])


def cell_text(name):
    return re.sub(r"([|<>*_])", r"\\\1", name)
