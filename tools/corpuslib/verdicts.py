"""Who is right where a peer fails a point: roms/conformance/verdicts.tsv, a row a disagreement.

    machine  image  points  section  words

`points` is a pattern (* and ?) for names of points, or "(run)" for a run that does not come to its end; several are divided by " | ".
Words that begin with "Now and then" are about a point that passes in some runs.
"""

import dataclasses
import os
import re

from .machines import ROOT, Refused

FILE = os.path.join(ROOT, "roms", "conformance", "verdicts.tsv")
RUN = "(run)"


@dataclasses.dataclass
class Verdict:
    machine: str
    image: str
    points: str
    section: str
    words: str
    matched: list = dataclasses.field(default_factory=list)

    def fits(self, name):
        pattern = "|".join(re.escape(p.strip()).replace(r"\*", ".*").replace(r"\?", ".") for p in self.points.split(" | "))
        return re.fullmatch(pattern, name) is not None


def read(path):
    if not os.path.exists(path):
        return []
    with open(path) as f:
        lines = [line.rstrip("\n").split("\t") for line in f][1:]
    for n, line in enumerate(lines, 2):
        if len(line) != 5 or not all(line):
            raise Refused(2, f"{path}:{n}: five columns are wanted: machine, image, points, section, words")
    return [Verdict(*line) for line in lines]


def apply(verdicts, runs):
    """Marks what is known of the runs, and what the verdicts have matched. Returns those that should have matched and did not."""
    for verdict in verdicts:
        for run in runs:
            if (verdict.machine, verdict.image) != (run.machine.name, run.image.name):
                continue
            for point in run.output.points:
                if point.result == "failed" and verdict.fits(point.name):
                    run.known[point.name] = verdict
                    verdict.matched.append(point.name)
            if run.problem and verdict.points == RUN:
                run.known[RUN] = verdict
                verdict.matched.append(RUN)
    ran = {(run.machine.name, run.image.name) for run in runs}
    return [v for v in verdicts if not v.matched and (v.machine, v.image) in ran and not v.words.startswith("Now and then")]
