"""TAP as the images of roms/ print it: one run's output as points, and two runs side by side.

A point is known by the name of its image and its own name. A name that begins with blanks belongs to the last one that does not:
"parent: child"; what comes again gets " (2)". The result is passed, failed, skipped or todo.
"""

import dataclasses
import re

LINE = re.compile(r"^(ok|not ok)\b *(\d+)?(?: -)?(.*)$")
PLAN = re.compile(r"^1\.\.(\d+)(?:\s*# *SKIP *(.*))?\s*$", re.I)
DIRECTIVE = re.compile(r"^(.*?)\s*(?<!\\)# *(SKIP|TODO)\b[: ]*(.*)$", re.I)


@dataclasses.dataclass
class Point:
    number: int
    name: str  # unique within the image; of a point that has none: "point N"
    result: str
    reason: str = ""  # of a skip or todo
    notes: list = dataclasses.field(default_factory=list)
    named: bool = True


@dataclasses.dataclass
class Output:
    points: list = dataclasses.field(default_factory=list)
    plan: int | None = None
    skipped: str = ""  # why the whole image was skipped
    bail: str = ""
    title: str = ""
    other: int = 0  # lines that are no TAP

    def count(self, result):
        return sum(point.result == result for point in self.points)

    def problem(self):
        """What is wrong with the run as a whole, or ""."""
        if self.bail:
            return f"bailed out: {self.bail}"
        if self.plan is None:
            if not self.points:
                return "printed no TAP" if self.other else "printed nothing"
            return f"ended without a plan, after point {self.points[-1].number}: {self.points[-1].name}"
        if len(self.points) != self.plan:
            return f"{len(self.points)} of {self.plan} points ran"
        wrong = [n for n, point in enumerate(self.points, 1) if point.number != n]
        return f"point {wrong[0]} has the number {self.points[wrong[0] - 1].number}" if wrong else ""


def printable(text):
    return "".join(c if c.isprintable() else "?" for c in text)


def parse(text):
    out, parent, seen = Output(), "", {}
    for line in text.replace("\r", "").split("\n"):
        line = printable(line.replace("\t", " "))
        plan, match = PLAN.match(line), LINE.match(line)
        if plan:
            out.plan = int(plan[1])
            if out.plan == 0:
                out.skipped = plan[2] or "no reason given"
        elif match:
            word, number, name = match[1], int(match[2] or len(out.points) + 1), match[3][1:] if match[3][:1] == " " else match[3]
            result, reason = ("passed" if word == "ok" else "failed"), ""
            directive = DIRECTIVE.match(name)
            if directive:
                name, reason = directive[1], directive[3].strip()
                result = "skipped" if directive[2].upper() == "SKIP" else "todo" if word == "not ok" else "passed"
            if name.strip():
                if name[0] != " ":
                    parent = full = name.strip()
                else:
                    full = f"{parent}: {name.strip()}" if parent else name.strip()
                seen[full] = seen.get(full, 0) + 1
                if seen[full] > 1:
                    full += f" ({seen[full]})"
            else:
                full = f"point {number}"
            out.points.append(Point(number, full, result, reason, named=bool(name.strip())))
        elif line.startswith("Bail out!"):
            out.bail = line[len("Bail out!"):].strip() or "no reason given"
        elif line.startswith("#"):
            note = line[1:].strip()
            if out.points and not re.match(r"\d+ of \d+ failed$", note):
                out.points[-1].notes.append(note)
            elif not out.points and not out.title:
                out.title = note
        elif line.strip() and not line.startswith("TAP version"):
            out.other += 1
    return out


def aligned(outputs):
    """The points of several runs of one image: [(name, [point or None ...])]. Skips that have no name take the one that another run
    has at their number, where both have the same plan."""
    names, rows = [], {}
    for which, output in enumerate(outputs):
        for point in output.points:
            name = point.name
            if not point.named:
                for other in outputs:
                    n = point.number - 1
                    if other.plan == output.plan and n < len(other.points) and other.points[n].named:
                        name = other.points[n].name
                        break
            if name not in rows:
                names.append(name)
                rows[name] = [None] * len(outputs)
            rows[name][which] = point
    return [(name, rows[name]) for name in names]


def differs(row):
    """Do the runs disagree about this point? Being skipped, or not being there, is no disagreement."""
    return len({point.result for point in row if point and point.result != "skipped"}) > 1
