"""What boots an image, and one run of it.

A machine is a command with %s for the image, %p for the number of processors and, if the serial line does not come out of its standard
output, %o for the file that it writes it to.
"""

import dataclasses
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from . import tap

TOOLS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(TOOLS)
MOST_OUTPUT = 4 << 20
GRACE = 3  # seconds for a machine to end after the image has printed its plan


class Refused(Exception):
    """A message for the user, and the exit status."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


@dataclasses.dataclass
class Machine:
    name: str
    words: list
    statuses: tuple | None = None  # exit statuses of an image that said 0; None: TAP alone judges
    ends: bool = False  # it must end by itself

    def command(self, image, processors, output):
        fill = {"%s": image, "%p": str(processors), "%o": output, "%%": "%"}
        return [re.sub("%[spo%]", lambda m: fill[m[0]], word) for word in self.words]


def named(text, program, extra):
    """The machine that --on names. `program` is ours, `extra` options for it."""
    if text == "matryoshka":
        words = [program, "-kernel", "%s", "-m", "64", "-smp", "%p", "-nodefaults", "-display", "none", "-no-reboot", "-serial",
                 "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "--stop-after", "4000000000", *extra]
        return Machine(text, words, (1,), True)
    if text in ("bochs", "qemu"):
        program = "bochs" if text == "bochs" else os.environ.get("QEMU", "qemu-system-x86_64")
        if not shutil.which(program):
            raise Refused(65, f"--on {text}: there is no program {program} (Debian: tools/run-on-{text} names the packages)")
        return Machine(text, [os.path.join(TOOLS, f"run-on-{text}"), "%s"])
    label, command = re.match(r"(?:([\w.+-]+)=(?=.*%s))?(.*)$", text, re.S).groups()
    if "%s" not in command:
        raise Refused(2, f"--on {text}: matryoshka, bochs, qemu, or a command with %s for the image")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Refused(2, f"--on {text}: {error}") from None
    if not shutil.which(words[0]):
        raise Refused(65, f"--on {text}: there is no program {words[0]}")
    return Machine(label or os.path.basename(words[0]), words)


@dataclasses.dataclass
class Run:
    machine: Machine
    image: "images.Image"
    output: tap.Output
    text: str
    seconds: float
    problem: str  # of the run as a whole, "" if none
    known: dict = dataclasses.field(default_factory=dict)  # failed points with a verdict: name -> verdict

    def failed(self):
        return [point for point in self.output.points if point.result == "failed" and point.name not in self.known]


class Runner:
    """Runs machines; stop() ends all that are running, from any thread."""

    def __init__(self, timeout):
        self.timeout, self.lock, self.running, self.stopped = timeout, threading.Lock(), set(), False

    def stop(self):
        with self.lock:
            self.stopped = True
            running = list(self.running)
        for process in running:
            end(process, 0.5)

    def run(self, machine, image):
        with tempfile.TemporaryDirectory(prefix="corpus.") as folder:
            stdout, serial = os.path.join(folder, "stdout"), os.path.join(folder, "serial")
            source = serial if any("%o" in word for word in machine.words) else stdout
            environment = dict(os.environ, PROCESSORS=str(image.processors), TIMEOUT=str(int(self.timeout) + 1))
            start = time.monotonic()
            with open(stdout, "wb") as out, open(os.path.join(folder, "stderr"), "w+b") as err:
                with self.lock:
                    if self.stopped:
                        raise KeyboardInterrupt
                    try:
                        process = subprocess.Popen(machine.command(image.path, image.processors, serial), stdin=subprocess.DEVNULL,
                                                   stdout=out, stderr=err, env=environment, start_new_session=True)
                    except OSError as error:
                        raise Refused(65, f"{machine.name}: {error.strerror}: {machine.words[0]}") from None
                    self.running.add(process)
                try:
                    why = self.watch(process, source, start)
                finally:
                    end(process, 1)
                    with self.lock:
                        self.running.discard(process)
                seconds = time.monotonic() - start
                err.seek(0)
                said = err.read(1 << 20).decode(errors="replace").strip().splitlines()
            text = read(source, MOST_OUTPUT).decode(errors="replace")
        if self.stopped:
            raise KeyboardInterrupt
        return judge(machine, image, text, seconds, why, process.returncode, said)

    def watch(self, process, source, start):
        """Waits for the end. What ended it, if it was not the machine: "time", "output" or "plan"."""
        looked, ended, tail = 0, None, b""
        while True:
            try:
                process.wait(0.05)
                return None
            except subprocess.TimeoutExpired:
                pass
            now = time.monotonic()
            if ended is not None and now > ended + GRACE:
                return "plan"
            if now > start + self.timeout:
                return "time" if ended is None else "plan"
            size = os.path.getsize(source) if os.path.exists(source) else 0
            if size > MOST_OUTPUT:
                return "output"
            if size > looked and ended is None:
                with open(source, "rb") as f:
                    f.seek(looked)
                    new = tail + f.read(size - looked)
                looked, tail = size, new[-80:]
                if re.search(rb"^(1\.\.\d+.*|Bail out!.*)\n", new, re.M):
                    ended = now


def read(path, most):
    if not os.path.exists(path):
        return b""
    with open(path, "rb") as f:
        return f.read(most)


def end(process, patience):
    """Ends a machine and what it has started."""
    for sign, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, 5)):
        if process.poll() is None or sign == signal.SIGTERM:
            try:
                os.killpg(process.pid, sign)
            except (ProcessLookupError, PermissionError):
                pass
        try:
            process.wait(wait)
            return
        except subprocess.TimeoutExpired:
            pass


def judge(machine, image, text, seconds, why, status, said):
    output = tap.parse(text)
    problem = output.problem()
    if why == "time":
        last = f", after point {output.points[-1].number}: {output.points[-1].name}" if output.points else ", before any point"
        problem = f"no end after {seconds:.0f} s{last}"
    elif why == "output":
        problem = f"printed more than {MOST_OUTPUT >> 20} MiB"
    elif why == "plan" and machine.ends:
        problem = problem or "went on after its plan"
    elif machine.statuses and not problem and not output.count("failed") and status not in machine.statuses:
        problem = f"exit status {status} ({machine.statuses[0]} is the image's success)"
    if problem and why is None and not output.points and status != 0 and said:
        problem += f"; exit status {status}: {tap.printable(said[-1])}"
    return Run(machine, image, output, text, seconds, problem)
