# shellcheck shell=bash
# A guest of the guest's guest: guest_l3 in tools/lib-guests.sh says how. With L1's KVM giving shadow VMCSs to L2's, and without.
nested() {
    guest_l3
    options -m 2048 -kernel "$KERNEL" -initrd "$INITRD" -append "$APPEND${1:+ $1}"
    expect "L2| matryoshka: kvm_intel is loaded" "L2| L3| matryoshka: hello from the guest's userland" \
        "L2| matryoshka: the guest powered off" "matryoshka: powering off" "reboot: Power down"
    refuse "Kernel panic" FAILED "BUG:" "WARNING: CPU" "dmesg: "
}

scenario kvm-l3 1800 "KVM in a guest of KVM: a Linux three levels down" nested
scenario kvm-l3-no-shadow-vmcs 1800 "the same with enable_shadow_vmcs=0" nested kvm_intel=enable_shadow_vmcs=0
