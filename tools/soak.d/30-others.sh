# shellcheck shell=bash
# Kernels other than Linux.

memtest() { # the file in Debian's package
    fetch_package memtest86+
    options -m 16 -kernel "$FETCHED/boot/$1" -append "console=ttyS0,115200"
    # It draws a screen, without line ends. The last test of the pass waits for minutes of the machine's time.
    expect "#10 [Bit fade test"
    refuse "Errors: +[1-9]"
    endless
}

scenario memtest86+ 900 "memtest86+, 64-bit: 16 MB, all tests but the bit fade" memtest memtest86+x64.bin

gnumach() {
    fetch_package gnumach-image-1.8-486
    scratch
    gunzip -c "$FETCHED"/boot/gnumach-*.gz >"$SCRATCH/gnumach"
    options -m 256 -kernel "$SCRATCH/gnumach" -append console=com0
    # By multiboot, in 32-bit code; without a first task it has no more to do than to say so.
    expect "GNU Mach" "No bootstrap code loaded with the kernel"
    endless
}

scenario gnumach 60 "GNU Mach, 32-bit, by multiboot, to where it wants its first task" gnumach
