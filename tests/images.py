"""Small kernel images, made of bytes, for the tests of the loaders: what each boot protocol wants and nothing more."""
import struct

BASE = 0x100000
DEAD = b"\xfa\xf4\xeb\xfd"  # cli; hlt; again: the same bytes in 32- and 64-bit code


def debug_exit(value):  # mov al, value; out 0F4h, al: ends with status (value << 1) | 1
    return bytes([0xB0, value, 0xE6, 0xF4]) + DEAD


def multiboot_header(at=0, load=None, load_end=0, bss_end=0, entry=0, flags=3):
    """The header at offset `at` of the file; with `load`, the address fields of an a.out kludge."""
    if load is not None:
        flags |= 1 << 16
    h = struct.pack("<III", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF)
    return h if load is None else h + struct.pack("<IIIII", load + at, load, load_end, bss_end, entry)


def elf(code, bits=64, base=BASE, entry=None, memsz=None, note=None, machine=None, filesz=None):
    """One segment to load at `base`; with `note`, a PVH note that names that entry."""
    heads = 2 if note is not None else 1
    eh, ph = (64, 56) if bits == 64 else (52, 32)
    start = 0x100
    notes = b"" if note is None else struct.pack("<III4sI", 4, 4, 18, b"Xen\0", note)
    machine = machine or (62 if bits == 64 else 3)
    entry = base if entry is None else entry
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1, 1]) + bytes(9)
    end = start + len(code)
    out = ident + struct.pack("<HHI" + ("QQQ" if bits == 64 else "III") + "IHHHHHH", 2, machine, 1, entry, eh, 0, 0, eh, ph, heads, 0, 0, 0)
    for kind, offset, size, room in [(1, start, filesz or len(code), memsz or len(code)), (4, end, len(notes), len(notes))][:heads]:
        address = base + offset - start
        if bits == 64:
            out += struct.pack("<IIQQQQQQ", kind, 7, offset, address, address, size, room, 4)
        else:
            out += struct.pack("<IIIIIIII", kind, offset, address, address, size, room, 7, 4)
    return out.ljust(start, b"\0") + code + notes


def multiboot_elf(code, bits=32):
    h = multiboot_header()
    return elf(h + code, bits, entry=BASE + len(h))


def kludge(code, **fields):
    return multiboot_header(load=BASE, **{"entry": BASE + 32, **fields}) + code


def bzimage(code, version=0x20F, loadflags=1, xloadflags=1, pref=BASE, init_size=0x100000, initrd_max=0x7FFFFFFF, cmdline=2047, magic=b"HdrS",
            code32=0x100000, old=None):
    """Setup sectors with the header (Documentation/arch/x86/boot.rst), then a protected-mode part whose byte 200h is `code`, or its
    first one `old`."""
    body = (old or b"").ljust(0x200, b"\0") + code
    body += bytes(-len(body) % 16)
    s = bytearray(2 * 512)
    struct.pack_into("<BHIHHHH", s, 0x1F1, 1, 0, len(body) // 16, 0, 0, 0, 0xAA55)
    s[0x200:0x202] = b"\xeb\x6a"
    s[0x202:0x206] = magic
    struct.pack_into("<H", s, 0x206, version)
    s[0x211] = loadflags
    struct.pack_into("<I", s, 0x214, code32)
    struct.pack_into("<IIBBHI", s, 0x22C, initrd_max, 0x200000, 0, 21, xloadflags, cmdline)
    struct.pack_into("<QI", s, 0x258, pref, init_size)
    if version < 0x20A:  # what later versions added is code there
        s[0x250:0x264] = b"\xcc" * 0x14
    return bytes(s) + body
