"""For the sessions of `tools/demo debug` (demo-debug*.gdb), in gdb after matryoshka-gdb.py: scenes with a word to each, and commands
that are shown as if they were typed. $demo_pause: 1, to wait for Enter before each scene."""
import re, sys

import gdb


def demo_text(name):
    return gdb.parse_and_eval(name).string()


def demo_scene(words):
    if int(gdb.parse_and_eval("$demo_pause")):
        sys.stdout.write("\n[Enter] ")
        sys.stdout.flush()
        sys.stdin.readline()
    print(f"\n== {words}", flush=True)


def demo_do(command, show=True):
    """As if it was typed. Returns what it printed."""
    hook = getattr(gdb, "prompt_hook", None)
    print(f"{hook(None) if hook else '(gdb) '}{command}", flush=True)
    out = gdb.execute(command, to_string=True)
    if show:
        print(out, end="", flush=True)
    return out


def demo_callers(words, most):
    """Of the words on the stack up to its end (Linux's stacks are 16 KiB, and aligned), the first that lead into functions."""
    sp = int(gdb.parse_and_eval("$rsp")) & (1 << 64) - 1
    stack = bytes(gdb.selected_inferior().read_memory(sp, -sp % 0x4000 or 0x4000))
    found = []
    for at in range(0, len(stack) - 7, 8):
        where = int.from_bytes(stack[at : at + 8], "little")
        name = gdb.execute(f"info symbol {where:#x}", to_string=True) if where >> 63 else ""
        if " + " in name and "in section .text" in name:
            found.append(f"{where:#x} <{name.split(' in section')[0].replace(' + ', '+')}>")
    print(words, *found[:most], sep="\n  ", flush=True)
