# shellcheck shell=bash
# Debian's kernels by themselves.

# The demo's userland with its scripted session. $1: the kernel's package; then words for its command line. USERLAND: its
# architecture.
linux() {
    local package=$1
    shift
    guest_linux "${USERLAND:-}"
    guest_kernel "$package"
    options -m 512 -kernel "$KERNEL" -initrd "$INITRD" -append "$APPEND $*"
    expect "matryoshka: userland is up" "matryoshka: the session went well" "reboot: "
    refuse "Kernel panic" WRONG "BUG:" "WARNING: CPU"
}

scenario linux-cloud 240 "Debian's cloud kernel, its whole log on the serial line, a session" linux linux-image-cloud-amd64
scenario linux-full 600 "Debian's full kernel, the same" linux linux-image-amd64

# $1: how -smp says it; then what the kernel says of it.
linux_processors() {
    options -smp "$1"
    shift
    expect "$@"
    linux linux-image-amd64
    refuse "TSC warp" "unstable" "clocksource: timekeeping watchdog" "rcu: INFO" "soft lockup" "not responding" "Firmware Bug"
}

scenario linux-4-processors 900 "Debian's full kernel on four processors" linux_processors 4 "smp: Brought up 1 node, 4 CPUs"
scenario linux-threads 900 "the same on two sockets of two cores of two threads" \
    linux_processors sockets=2,cores=2,threads=2 "smp: Brought up 1 node, 8 CPUs" "smpboot: Max logical packages: 2"
scenario linux-16-processors 900 "the same on sixteen processors" linux_processors 16 "smp: Brought up 1 node, 16 CPUs"

linux_i386() {
    expect "-$1 i686"
    USERLAND=i386 linux "linux-image-$1:i386"
}

scenario linux-i386 600 "Debian's 32-bit kernel and userland" linux_i386 686
scenario linux-i386-pae 600 "Debian's 32-bit kernel with PAE, the same" linux_i386 686-pae
