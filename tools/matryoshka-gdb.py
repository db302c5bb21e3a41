"""For gdb, when it debugs a Matryoshka (docs/debugging.md): the monitor's commands as gdb's own, the level in the
prompt, and symbols by level.

    gdb -x tools/matryoshka-gdb.py        or, for every gdb: source .../matryoshka-gdb.py in ~/.gdbinit
    (gdb) target remote :1234

It does nothing while what gdb is connected to is no Matryoshka. The commands, and what they take, are read from the
machine that is connected: there is no list of them here.
"""
import os, re, sys, tempfile

import gdb

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kernel_symbols

LEVELS = ("root", "guest")
FLUSH = "maintenance flush register-cache"


def run(text):
    return gdb.execute(text, to_string=True)


def register(name):
    """None: there is none, or its value is not known."""
    try:
        value = gdb.parse_and_eval("$" + name)
        return None if value.type.code == gdb.TYPE_CODE_VOID else int(value) & (1 << 64) - 1
    except gdb.error:
        return None


def level():
    """Of what is looked at; None without a Matryoshka that stands still."""
    mode = register("vmx_mode")
    return None if mode is None else "guest" if mode == 2 else "root"


def refusal():
    """What the machine has said to a command that it has refused: gdb itself says that it did, and no more."""
    try:
        return bytes.fromhex(gdb.selected_inferior().connection.send_packet("qMatryoshka.Refusal").decode()).decode().rstrip().replace("monitor ", "mat ")
    except (AttributeError, ValueError, gdb.error):  # a gdb before 12
        return None


# ---- the level in the prompt ----
plain = gdb.parameter("prompt")


def prompt(_):
    mode = register("vmx_mode")
    if mode is None:
        return plain
    vmcs = register("vmcs_pointer")
    return f"(gdb L2 vmcs {vmcs:#x}) " if mode == 2 else "(gdb L1 root) " if mode == 1 else "(gdb L1) "


# ---- symbols, of the level that is looked at ----
class Symbols:
    """A file. `offset` None: of a kernel, which the table of its interrupts' handlers is to tell."""

    def __init__(self, path, offset):
        self.given, self.path, self.offset, self.table, self.first = path, path, offset, {}, None
        found = kernel_symbols.read(path)
        for address, _, name in found:
            self.table.setdefault(name, address)
        with open(path, "rb") as f:
            elf = f.read(4) == b"\x7fELF"
        if not elf:
            self.folder = tempfile.TemporaryDirectory(prefix="matryoshka-gdb.")
            self.path = os.path.join(self.folder.name, "symbols-of-" + os.path.basename(path))
            kernel_symbols.write_elf(found, self.path)
        if offset is None and "asm_exc_page_fault" not in self.table:
            self.offset = 0  # no Linux

    def find_offset(self):
        """Where KASLR has put this kernel: two entries of the IDT in use, #GP's and #PF's, must agree."""
        base = register("idtr_base")
        if base is None or self.offset is not None:
            return
        try:
            idt = bytes(gdb.selected_inferior().read_memory(base, 16 * 15))
        except gdb.error:
            return
        entry = lambda n: int.from_bytes(idt[16 * n : 16 * n + 2] + idt[16 * n + 6 : 16 * n + 12], "little")
        by = [entry(n) - self.table.get(name, 0) for n, name in ((13, "asm_exc_general_protection"), (14, "asm_exc_page_fault"))]
        if by[0] == by[1] and by[0] % (1 << 21) == 0 and 0 <= by[0] < 1 << 30:
            self.offset = by[0]


files = {name: [] for name in LEVELS}
loaded = []  # those that gdb has now


def follow():
    """gdb gets the symbols of the level that is looked at, and loses the others."""
    here = level()
    if here is None:
        return False
    for s in files[here]:
        s.find_offset()
    want = [s for s in files[here] if s.offset is not None]
    changed = set(map(id, want)) != set(map(id, loaded))
    for s in [s for s in loaded if s not in want]:
        for o in gdb.objfiles():
            if o.filename == os.path.realpath(s.path):
                run(f"remove-symbol-file -a {s.first:#x}")
        loaded.remove(s)
    for s in [s for s in want if s not in loaded]:
        was = gdb.parameter("confirm")
        run("set confirm off")
        try:
            run(f"add-symbol-file {s.path} -o {s.offset:#x}")
            s.first = text_of(s)
            loaded.append(s)
        finally:
            run(f"set confirm {'on' if was else 'off'}")
    return changed


def text_of(s):
    """An address in it, which remove-symbol-file wants."""
    begin = re.search(r"(0x[0-9a-f]+) - 0x[0-9a-f]+ is \.text in " + re.escape(os.path.realpath(s.path)) + "$", run("info files"), re.M)
    if begin:
        return int(begin[1], 16)
    places = s.table.values()  # of a kernel, whose sections have no contents: per-processor variables are no places
    return min([a for a in places if a >> 63] or places) + s.offset


def looked_at(stop=None):
    try:
        if follow() and stop:  # gdb has said where it is by the names of before
            gdb.write(run("frame"))
    except (gdb.error, OSError) as e:
        gdb.write(f"mat symbols: {e}\n", gdb.STDERR)


# ---- the commands ----
class Mat(gdb.Command):
    """A command of Matryoshka's monitor: mat help lists them, mat help COMMAND tells of one.
What the machine must run for, it runs: mat step-entry goes there. Beyond the monitor's:
  mat symbols                             the files of symbols, and where they are
  mat symbols root|guest FILE [OFFSET]    gdb has them while that level is looked at. FILE: ELF, System.map, or a
                                          Linux kernel's bzImage; without OFFSET KASLR's is found by its IDT
  mat at root|guest NAME                  a breakpoint at a symbol of that level, which stops there alone"""

    def __init__(self):
        super().__init__("mat", gdb.COMMAND_RUNNING)
        self.known = []

    def rows(self):
        """[(words, arguments, the gdb command that does it or None)] from the monitor's own help."""
        if not self.known and level() is not None:
            for line, text in re.findall(r"^monitor (.*)\n    (.*)$", run("monitor help"), re.M):
                words = re.match(r"[a-z_-]+(?: [a-z]+(?![a-z|]))*", line)[0]
                there = re.search(r"\(in gdb: ([a-z]+)\)", text)
                self.known.append((words, line[len(words) :].strip(), there and there[1]))
        return self.known

    def complete(self, text, word):
        before = text[: len(text) - len(word)].split() if word else text.split()
        own = [("symbols root", "", None), ("symbols guest", "", None), ("at root", "", None), ("at guest", "", None)]
        if before[:1] in (["symbols"], ["at"]) and len(before) > 1:
            if before[0] == "symbols":
                return gdb.COMPLETE_FILENAME
            return sorted({n for s in files.get(before[1], []) for n in s.table if n.startswith(word)})[:200]
        found = set()
        for words, arguments, _ in self.rows() + own:
            parts = words.split()
            if before[:1] == ["help"]:
                parts = ["help"] + parts
            if parts[: len(before)] == before:
                found.update(parts[len(before) : len(before) + 1] or re.findall(r"(?<![\w-])[a-z][a-z-]+", arguments))
            elif before[:1] == parts[:1]:
                found.update(re.findall(r"(?<![\w-])[a-z][a-z-]+", arguments))
        return sorted(x for x in found if x.startswith(word))

    def invoke(self, text, tty):
        self.dont_repeat()
        words = text.split()
        if level() is None:
            raise gdb.GdbError("mat: connect to a Matryoshka first, as by: target remote :1234; and it must stand still")
        if not words:
            raise gdb.GdbError("mat: a command expected; mat help lists them")
        if words[0] == "symbols":
            return self.symbols(words[1:])
        if words[0] == "at":
            return self.at(words[1:])
        for name, _, command in self.rows():
            if name == words[0] and command:  # gdb does that itself
                gdb.execute(" ".join([command, *words[1:]]), tty)
                return
        try:
            said = run("monitor " + text)
        except gdb.error as e:
            raise gdb.GdbError(refusal() or str(e))
        finally:
            run(FLUSH)
        gdb.write(re.sub(r"^gdb shows it after: .*\n", "", said, flags=re.M).replace("monitor ", "mat "))
        looked_at()
        if said.startswith("The next continue goes to"):
            gdb.execute("continue", tty)

    def symbols(self, words):
        if not words:
            for name in LEVELS:
                for s in files[name]:
                    where = "where it is, is not known yet" if s.offset is None else f"offset {s.offset:#x}"
                    gdb.write(f"{name}: {s.given}: {len(s.table)} symbols, {where}{', in use' if s in loaded else ''}\n")
            return
        if len(words) not in (2, 3) or words[0] not in LEVELS:
            raise gdb.GdbError("mat symbols: root or guest, a file, and perhaps an offset expected")
        try:
            s = Symbols(os.path.abspath(os.path.expanduser(words[1])), int(gdb.parse_and_eval(words[2])) if len(words) > 2 else None)
        except (OSError, kernel_symbols.NoSymbols) as e:
            raise gdb.GdbError(f"mat symbols: {words[1]}: {e}")
        files[words[0]].append(s)
        if s.offset is None and level() != words[0]:  # there for a moment
            try:
                run("monitor context " + words[0])
                run(FLUSH)
                s.find_offset()
            except gdb.error:
                pass  # there is no VMCS to tell
            run("monitor context here")
            run(FLUSH)
        looked_at()
        self.symbols([])

    def at(self, words):
        if len(words) != 2 or words[0] not in LEVELS:
            raise gdb.GdbError("mat at: root or guest, and the name of a symbol expected")
        for s in files[words[0]]:
            if words[1] in s.table and s.offset is not None:
                address = s.table[words[1]] + s.offset
                gdb.write(run(f"monitor limit {address:#x} {words[0]}"))
                gdb.execute(f"break *{address:#x}")
                return
        raise gdb.GdbError(f'mat at: no file of level {words[0]} has "{words[1]}" at a known place (mat symbols lists them)')


mat = Mat()
gdb.prompt_hook = prompt
gdb.events.stop.connect(looked_at)
