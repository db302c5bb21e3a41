"""What watching costs (tools/bench --costs): the same workloads on the same machine with and without a debugger, a
history, a trace. Each way of watching is somebody who sits beside the run: words of the command line, and what is said on
a socket before the machine goes on."""

import os
import socket
import subprocess
import time

WORKLOADS = "boot,sort,exit-cpuid"


class Beside:
    """Nobody; those below are somebody."""

    def __init__(self, title):
        self.title, self.socket = title, None

    def fits(self, image):
        return True

    def words(self, folder):
        return []

    def begin(self):
        return None

    def hear(self, data):
        pass

    def end(self):
        if self.socket:
            self.socket.close()
            self.socket = None


class Output(Beside):
    """Writes something."""

    def __init__(self, title, option, name):
        super().__init__(title)
        self.option, self.name = option, name

    def words(self, folder):
        return [self.option, f"{folder}/{self.name}"]


class Debugger(Beside):
    """Connects, says something, and lets the machine go."""

    def __init__(self, title, option, said, history=True, watches=None):
        super().__init__(title)
        self.option, self.said, self.history, self.watches = option, said, history, watches

    def fits(self, image):
        return self.watches is None or self.watches(image) is not None

    def words(self, folder):
        self.path = f"{folder}/socket"
        return ["-S", self.option, f"unix:{self.path}"] + ([] if self.history else ["-history", "off"])

    def begin(self):
        self.heard = b""
        end = time.monotonic() + 60
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(self.path)
                break
            except OSError:
                self.socket.close()
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)
        self.socket.sendall(self.said)
        return self.socket.fileno()

    def hear(self, data):
        self.heard += data
        if b"write of physical" in self.heard or b"$T" in self.heard:
            raise RuntimeError(f"{self.title}: the machine stopped: {self.heard[-200:]!r}")


class Watchpoint(Debugger):
    """A write watchpoint of the monitor that is never met; `where` gives its physical address, or None."""

    def __init__(self, title, where):
        super().__init__(title, "-monitor", None, history=False, watches=where)

    def at(self, image):
        self.said = f"watch physical {self.watches(image):#x} 8 w\ncont\n".encode()


def cold(image):
    return 0x5000  # below 1 MiB, where neither kernel keeps anything


def warm(image):
    """In the page that the smallest hypervisor keeps its guest's registers in: bytes that nobody writes."""
    if not image.vmx:
        return None
    lines = subprocess.run(["nm", "-S", image.kernel + "64"], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    at, size = next((int(w[0], 16), int(w[1], 16)) for w in map(str.split, lines) if len(w) == 4 and w[3].split(".")[0] == "v")
    return at - 8 if (at - 8) >> 12 == at >> 12 else at + size


def everybody():
    return [
        Beside("nobody watches"),
        Debugger("gdb attached, no breakpoint, -history off", "-gdb", b"$c#63", history=False),
        Debugger("monitor attached, -history off", "-monitor", b"cont\n", history=False),
        Debugger("monitor attached: with its history", "-monitor", b"cont\n"),
        Watchpoint("a write watchpoint on a page that nobody writes", cold),
        Watchpoint("a write watchpoint on a page that every exit writes", warm),
        Output("--trace to x.json.zst", "--trace", "x.json.zst"),
        Output("--trace to x.txt", "--trace", "x.txt"),
        Output("--report", "--report", "x.html"),
    ]


def measure(run_of, images, options, say):
    """{title: {workload: [seconds]}}, in the order of everybody(), and whether a run failed."""
    samples, bad = {beside.title: {} for beside in everybody()}, False
    for number in range(options.rounds):
        for image in images:
            for beside in everybody() if number % 2 == 0 else everybody()[::-1]:
                if not beside.fits(image):
                    continue
                if isinstance(beside, Watchpoint):
                    beside.at(image)
                say(f"round {number + 1} of {options.rounds}: {image.name}: {beside.title}")
                run = run_of(image)
                run.beside = beside
                try:
                    bad |= not run.run()
                finally:
                    beside.end()
                for name, seconds in run.times.items():
                    samples[beside.title].setdefault(name, []).append(seconds)
    return samples, bad


def table(samples, order):
    """The least time of each, and what it is beside the least time of who is not watched."""
    names = [name for name, _ in order]
    titles = list(samples)
    head = ["who watches"] + [x for name in names for x in (f"{name} s", "ratio")]
    rows = []
    for title in titles:
        row = [title]
        for name in names:
            own, base = samples[title].get(name), samples[titles[0]].get(name)
            row += [f"{min(own):.2f}", f"{min(own) / min(base):.3f}"] if own and base else ["", ""]
        rows.append(row)
    return head, rows
