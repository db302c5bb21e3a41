# shellcheck shell=bash
# Debian's kernel told not to use a part of the board, for the sake of the part that it uses instead.

# Without ACPI: no HPET, no PM timer, and nothing that could cut the power, so it halts at its end.
linux_without_acpi() { # package
    ends_with 12
    linux "$1" acpi=off
}

# Processors and interrupt lines by the MP tables; the 64-bit kernels are built without that code.
linux_mp_tables() {
    expect "Intel MultiProcessor Specification"
    USERLAND=i386 linux_without_acpi linux-image-686:i386
}

scenario linux-no-acpi 240 "Debian's cloud kernel without ACPI" linux_without_acpi linux-image-cloud-amd64
scenario linux-mp-tables 600 "Debian's 32-bit kernel without ACPI: MP tables" linux_mp_tables
scenario linux-no-apic 240 "Debian's cloud kernel on the PIC" linux linux-image-cloud-amd64 noapic nolapic
