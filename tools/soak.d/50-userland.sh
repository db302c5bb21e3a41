# shellcheck shell=bash
# Debian's programs at work (tools/guest/userland): the same output as on the host's processor, byte for byte.

PACKAGES_USERLAND=(python3.11-minimal libpython3.11-minimal libpython3.11-stdlib perl-base openssl gcc-12 cpp-12
    libgcc-12-dev libc6 libc6-dev linux-libc-dev binutils binutils-x86-64-linux-gnu sqlite3 xz-utils)

# The lines of an initramfs list for what these packages installed on the host, and the libraries that it needs.
list_packages() {
    local file leave_out
    # Not the links to folders of a merged /usr: files go where their package says.
    leave_out='^/[^/]*$|^/usr/share/(doc|man|locale|info|lintian|bug|gcc|gdb)|/(lto1|lto-wrapper|gprof|dwp)$|/libc\.a$'
    dpkg -L "$@" | grep -vE "$leave_out" | sort -u | while read -r file; do
        if [ -L "$file" ]; then
            printf 'link %s %s\n' "$file" "$(readlink "$file")"
        elif [ -f "$file" ]; then
            printf 'file %s %s 755\n' "$file" "$file"
        fi
    done | tee "$SCRATCH/files"
    sed -nE 's/^file ([^ ]*(bin|libexec|lib-dynload|gcc)\/[^ ]*) .*/\1/p' "$SCRATCH/files" >"$SCRATCH/programs"
    # Scripts are among them, on which ldd fails.
    (xargs -d '\n' -a "$SCRATCH/programs" ldd 2>/dev/null || true) |
        sed -nE 's/^\t(.* => )?(\/[^ ]+) \(.*/\2/p' | sort -u | while read -r file; do
        printf 'file %s %s 755\n' "$file" "$(realpath "$file")"
    done
}

userland() { # parts
    local part
    ensure_packages "${PACKAGES_USERLAND[@]}"
    guest_busybox
    guest_kernel linux-image-cloud-amd64
    {
        list_packages "${PACKAGES_USERLAND[@]}"
        list_busybox
        printf 'file init %s 755\nfile userland %s 755\n' "$ROOT/tools/guest/init-userland" "$ROOT/tools/guest/userland"
        mkdir -p "$SCRATCH/work" "$SCRATCH/expected"
        for part in "$@"; do
            # What the host has and the machine has not. (libm's results with FMA differ in the last bit from those
            # without: it is there where the host has it.)
            GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-FMA4 TMPDIR=$SCRATCH/work \
                "$BUSYBOX" sh "$ROOT/tools/guest/userland" "$part" >"$SCRATCH/expected/$part"
            printf 'file expected/%s %s 644\n' "$part" "$SCRATCH/expected/$part"
            expect "matryoshka: $part: the same"
        done
    } >"$SCRATCH/userland.list"
    make_initramfs userland "$SCRATCH/userland.list"
    options -m 1024 -kernel "$KERNEL" -initrd "$INITRD" -append "console=ttyS0 quiet mitigations=off \"part=$*\""
    expect "matryoshka: all is the same"
    refuse "Kernel panic" DIFFERS "segfault"
}

scenario userland 1200 "python, perl, openssl, gcc, sqlite, xz: the same output as on the host" \
    userland python perl openssl gcc sqlite xz
