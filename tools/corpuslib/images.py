"""The images: what there is (corpus.tsv, which the build of roms/ writes), building them, and the CD."""

import dataclasses
import fnmatch
import os
import shutil
import subprocess
import tempfile

from .machines import ROOT, Refused


@dataclasses.dataclass
class Image:
    name: str
    path: str
    processors: int
    title: str


def listed(folder):
    path = os.path.join(folder, "corpus.tsv")
    if not os.path.isfile(path):
        raise Refused(65, f"no corpus.tsv in {folder}: not a build of roms/ (build it: cmake -S roms -B DIR -G Ninja && ninja -C DIR)")
    with open(path) as f:
        rows = [line.rstrip("\n").split("\t") for line in f if line.strip()]
    return [Image(name, os.path.join(folder, file), int(processors), title) for name, file, processors, title in rows]


def chosen(images, patterns):
    """Those that a pattern matches, or all; a pattern that matches none is an error."""
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(image.name, pattern) for image in images):
            raise Refused(2, f"there is no image {pattern} (--list shows them)")
    found = [i for i in images if not patterns or any(fnmatch.fnmatchcase(i.name, p) for p in patterns)]
    for image in found:
        if not os.path.isfile(image.path):
            raise Refused(65, f"there is no {image.path}: build it first (without --no-build this is done)")
    return found


def call(words, log):
    if not shutil.which(words[0]):
        raise Refused(65, f"{words[0]} is missing (Debian: cmake ninja-build gcc)")
    with open(log, "w") as f:
        if subprocess.call(words, stdin=subprocess.DEVNULL, stdout=f, stderr=f):
            with open(log) as g:
                print("".join(g.readlines()[-15:]), end="", flush=True)
            raise Refused(66, f"the build failed (all of it: {log})")


def build(ours, say):
    """Builds the images, and with `ours` the machine. Returns the folder of the images."""
    whole = os.path.isfile(os.path.join(ROOT, "CMakeLists.txt"))
    folder = os.environ.get("MATRYOSHKA_BUILD") or os.path.join(ROOT, "build" if ours else "build-roms")
    if ours and not whole:
        raise Refused(66, f"no CMakeLists.txt in {ROOT}: not a whole clone")
    inside = whole and (ours or os.path.isfile(os.path.join(folder, "matryoshka")))
    say(f"building in {os.path.relpath(folder)}")
    os.makedirs(folder, exist_ok=True)
    source, targets = (ROOT, ["roms"] + ["matryoshka_bin"] * ours) if inside else (os.path.join(ROOT, "roms"), ["roms"])
    call(["cmake", "-G", "Ninja", "-S", source, "-B", folder], os.path.join(folder, "configure.log"))
    call(["ninja", "-C", folder, *targets], os.path.join(folder, "build.log"))
    return os.path.join(folder, "roms") if inside else folder


MENU = """\
# The conformance corpus of Matryoshka: an image an entry. What an image prints goes to COM1 (115200 8N1), not to the screen.
# An image ends in HLT where nothing switches the machine off: reset it for the next one.
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
set timeout={timeout}
set default=0
"""
ENTRY = 'menuentry "{name} - {title}" --id {name} {{\n    multiboot /boot/{file} {words}\n}}\n'


def iso(images, file, timeout):
    """One CD that BIOSes boot, an image an entry of its menu."""
    if not shutil.which("grub-mkrescue") or not shutil.which("xorriso"):
        raise Refused(65, "--iso wants grub-mkrescue and xorriso (Debian: grub-common grub-pc-bin xorriso mtools)")
    if not os.path.isdir("/usr/lib/grub/i386-pc"):
        raise Refused(65, "--iso wants GRUB for BIOSes in /usr/lib/grub/i386-pc (Debian: grub-pc-bin)")
    with tempfile.TemporaryDirectory(prefix="corpus.") as folder:
        boot = os.path.join(folder, "boot")
        os.makedirs(os.path.join(boot, "grub"))
        menu = MENU.format(timeout=timeout)
        for image in images:
            shutil.copy(image.path, boot)
            menu += ENTRY.format(name=image.name, title=image.title.replace('"', "'"), file=os.path.basename(image.path), words="")
        menu += 'menuentry "reboot" --id reboot {\n    reboot\n}\nmenuentry "switch off" --id halt {\n    halt\n}\n'
        with open(os.path.join(boot, "grub", "grub.cfg"), "w") as f:
            f.write(menu)
        words = ["grub-mkrescue", "--directory=/usr/lib/grub/i386-pc", "--fonts=", "--themes=", "--locales=", "--compress=no",
                 "--install-modules=biosdisk iso9660 multiboot normal serial terminal reboot halt", "-o", file, folder]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode or not os.path.isfile(file):
            lines = done.stdout.strip().splitlines() or ["grub-mkrescue failed"]
            raise Refused(66, f"could not make {file}: {lines[-1]}")
