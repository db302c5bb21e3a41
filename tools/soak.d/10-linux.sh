# shellcheck shell=bash
# Debian's kernels by themselves.

# The demo's userland with its scripted session. $1: the kernel's package; then words for its command line.
linux() {
    local package=$1
    shift
    guest_linux
    guest_kernel "$package"
    options -m 512 -kernel "$KERNEL" -initrd "$INITRD" -append "$APPEND $*"
    expect "matryoshka: userland is up" "matryoshka: the session went well" "reboot: Power down"
    refuse "Kernel panic" WRONG "BUG:" "WARNING: CPU"
}

scenario linux-cloud 120 "Debian's cloud kernel, its whole log on the serial line, a session" linux linux-image-cloud-amd64
scenario linux-full 240 "Debian's full kernel, the same" linux linux-image-amd64
