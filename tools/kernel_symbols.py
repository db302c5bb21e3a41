#!/usr/bin/env python3
"""The symbols of a Linux kernel, from what distributions ship: its bzImage. Debian's System.map is empty and its
unstripped kernel a package of hundreds of megabytes, but the kernel holds its own names, for its backtraces (kallsyms).

usage: kernel_symbols.py KERNEL > System.map      (then: matryoshka --symbols guest:System.map,offset=0x1a000000)

KERNEL: a bzImage (gzip, xz, lz4 or zstd; the last two by their programs) of Linux 6.1, as Debian 12
has it; an ELF file with a symbol table; or a System.map. tools/matryoshka-gdb.py reads them by this too.

Exit status: 0; 1 no symbols can be read there; 2 usage.
"""
import gzip, lzma, re, struct, subprocess, sys


class NoSymbols(Exception):
    """With a line for the person who asked."""


def unpack(image):
    """The kernel in a bzImage, by its header: Linux's Documentation/arch/x86/boot.rst, "payload_offset"."""
    if image[0x202:0x206] != b"HdrS":
        return image
    at = (image[0x1F1] + 1) * 512 + struct.unpack_from("<I", image, 0x248)[0]
    body = image[at : at + struct.unpack_from("<I", image, 0x24C)[0]]
    if body[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=__import__("io").BytesIO(body)).read(1 << 28)
    if body[:5] == b"\xfd7zXZ":
        return lzma.LZMADecompressor().decompress(body)
    for magic, program in ((b"\x02\x21\x4c\x18", "lz4"), (b"\x28\xb5\x2f\xfd", "zstd")):
        if body.startswith(magic):
            try:  # four bytes with the kernel's size follow, which the program warns of
                return subprocess.run([program, "-dcq"], input=body[:-4], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
            except FileNotFoundError:
                raise NoSymbols(f"the kernel is packed by {program}, which is not installed")
    raise NoSymbols("a bzImage that is packed in a way unknown here")


BASE = 0xFFFFFFFF81000000  # where x86-64's kernels are linked to run, from which kallsyms count


def kallsyms(kernel):
    """[(address, type, name)] by the tables of scripts/kallsyms.c. They lie one behind the other, each 8-aligned: offsets,
    relative base, number, names, markers (where each 256th name begins), and farther on the tokens, which can be told by
    sight, since those for digits stand for themselves. They are right if the names lead from marker to marker."""
    tokens = tokens_in(kernel)
    at = kernel.find(struct.pack("<Q", BASE))
    while at >= 0 and at + 16 < len(kernel):
        n, names = struct.unpack_from("<Q", kernel, at + 8)[0], at + 16
        texts = read_names(kernel, names, n, tokens) if at % 8 == 0 and 1000 < n < 1 << 22 and at > 4 * n else None
        if texts:
            offsets = struct.unpack_from(f"<{n}i", kernel, at - -(-4 * n // 8) * 8)
            # Positive: as it is, a per-processor variable; negative: from the base.
            return [(o if o >= 0 else BASE - 1 - o, t[:1], t[1:]) for o, t in zip(offsets, texts)]
        at = kernel.find(struct.pack("<Q", BASE), at + 1)
    raise NoSymbols("no kallsyms as Linux 6.1 has them are in it")


def tokens_in(kernel):
    digits = b"".join(b"%d\0" % n for n in range(10))
    at = kernel.find(digits)
    while at >= 0:
        start = at
        for _ in range(0x30):  # the tokens before "0"
            start = kernel.rfind(b"\0", 0, start - 1) + 1
        tokens = kernel[start : start + 16384].split(b"\0", 256)[:256]
        if start % 8 == 0 and tokens[ord("A") : ord("A") + 1] != [b""] and max(map(len, tokens)) > 2:
            return [t.decode("latin-1") for t in tokens]
        at = kernel.find(digits, at + 1)
    raise NoSymbols("no kallsyms are in it")


def read_names(kernel, at, n, tokens):
    begin, texts, marks = at, [], []
    for i in range(n):
        if i % 256 == 0:
            marks.append(at - begin)
        if at + 256 > len(kernel):
            return None
        length = kernel[at]
        at += 1
        if length & 0x80:
            length = (length & 0x7F) | kernel[at] << 7
            at += 1
        texts.append("".join([tokens[b] for b in kernel[at : at + length]]))
        at += length
    at = -(-at // 8) * 8
    return texts if kernel[at : at + 4 * len(marks)] == struct.pack(f"<{len(marks)}I", *marks) else None


def elf_symbols(data):
    """Those of an ELF64 file's .symtab; empty if it has none."""
    out = []
    shoff, = struct.unpack_from("<Q", data, 0x28)
    size, n = struct.unpack_from("<HH", data, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, shoff + i * size) for i in range(n)]
    for kind, offset, length, link in ((s[1], s[4], s[5], s[6]) for s in sections):
        if kind != 2:
            continue
        strings = sections[link][4]
        for at in range(offset, offset + length, 24):
            name, info, _, section, value, _ = struct.unpack_from("<IBBHQQ", data, at)
            if section in (0, 0xFFF1) or info & 15 > 2:
                continue
            text = data[strings + name : data.index(b"\0", strings + name)].decode("latin-1")
            if text:
                out.append((value, "t" if info & 15 == 2 else "d", text))
    return out


def read(path):
    """[(address, type letter as nm's, name)], by address. OSError, or NoSymbols with the reason."""
    with open(path, "rb") as f:
        data = f.read()
    try:
        if data[:4] == b"\x7fELF" and data[4] == 2 and (found := elf_symbols(data)):
            return sorted(found)
        if data[0x202:0x206] == b"HdrS" or data[:4] == b"\x7fELF":
            return sorted(kallsyms(unpack(data)))
    except (struct.error, IndexError, ValueError, lzma.LZMAError, OSError, EOFError) as e:
        raise NoSymbols(f"damaged: {e}")
    found = re.findall(rb"^([0-9a-fA-F]{8,16}) (\w) (\S+)", data, re.M)
    if len(found) < 2:
        raise NoSymbols("neither a bzImage, nor an ELF file, nor a System.map with symbols in it (Debian's has none: give its vmlinuz)")
    return sorted((int(a, 16), t.decode(), n.decode("latin-1")) for a, t, n in found)


def write_elf(symbols, path):
    """An ELF file with these symbols, for gdb. What is code is told by the kernel's own marks of its sections."""
    at = {name: a for a, _, name in reversed(symbols)}
    top = [s for s in symbols if s[0] >= 1 << 63]  # per-processor variables are no addresses
    if not top:
        top = symbols
    ends = top[-1][0] + 1
    marks = sorted({m for m in (top[0][0], at.get("_etext"), at.get("_sinittext"), at.get("_einittext"), ends) if m is not None and top[0][0] <= m <= ends})
    code = {at.get("_sinittext"), top[0][0]}
    parts = [(a, b, a in code) for a, b in zip(marks, marks[1:])]
    strings, table, part = bytearray(b"\0"), bytearray(24), 0
    for i, (address, kind, name) in enumerate(top):
        while part < len(parts) - 1 and address >= parts[part][1]:
            part += 1
        function = kind in "tTwW" and parts[part][2]
        size = top[i + 1][0] - address if i + 1 < len(top) else 0
        table += struct.pack("<IBBHQQ", len(strings), 0x10 | (2 if function else 1), 0, part + 1, address, size)
        strings += name.encode("latin-1") + b"\0"
    # (each of another name, or LLDB takes them for one)
    names = b"\0.text\0.data\0.init.text\0.init.data\0.symtab\0.strtab\0.shstrtab\0"
    called = lambda name: names.index(b"\0" + name + b"\0") + 1
    offset = 64
    sections = [bytes(64)]
    for i, (a, b, is_code) in enumerate(parts):  # no contents: they are in the machine's memory
        name = called((b"" if i < 2 else b".init") + (b".text" if is_code else b".data"))
        sections.append(struct.pack("<IIQQQQIIQQ", name, 8, 6 if is_code else 3, a, offset, b - a, 0, 0, 1, 0))
    for name, kind, body, link, info, each in ((b".symtab", 2, table, len(parts) + 2, 1, 24), (b".strtab", 3, strings, 0, 0, 0), (b".shstrtab", 3, names, 0, 0, 0)):
        sections.append(struct.pack("<IIQQQQIIQQ", called(name), kind, 0, 0, offset, len(body), link, info, 8 if each else 1, each))
        offset += len(body)
    with open(path, "wb") as f:
        f.write(struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0, 0, offset, 0, 64, 0, 0, 64, len(sections), len(sections) - 1))
        f.write(bytes(table) + bytes(strings) + names + b"".join(sections))


if __name__ == "__main__":
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(__doc__.strip())
        sys.exit(0)
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print("kernel_symbols.py: wants one kernel, and no options; see --help", file=sys.stderr)
        sys.exit(2)
    try:
        for address, kind, name in read(sys.argv[1]):
            print(f"{address:016x} {kind} {name}")
    except (OSError, NoSymbols) as e:
        print(f"kernel_symbols.py: {sys.argv[1]}: {e}", file=sys.stderr)
        sys.exit(1)
