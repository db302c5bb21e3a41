# shellcheck shell=bash
# A guest of the guest's guest. L1 and L2 are both tools/guest/init-kvm: L2's kernel and userland are those that L1 has in
# scenario kvm-pc, and its guest, L3, is what L2 is there. L1's memory holds L2's, and L2's initramfs twice beside QEMU.
nested() {
    local list=$SCRATCH/nested.list
    guest_kvm
    printf 'file inner/vmlinuz %s 644\nfile inner/initrd %s 644\n' "$KERNEL" "$INITRD" >"$list"
    guest_kvm "$list"
    APPEND+=' "qemu=-m 1024" "inner=console=ttyS0 reboot=t quiet level=2"'
    options -m 2048 -kernel "$KERNEL" -initrd "$INITRD" -append "$APPEND"
    expect "L2| matryoshka: kvm_intel is loaded" "L2| L3| matryoshka: hello from the guest's userland" \
        "L2| matryoshka: the guest powered off" "matryoshka: powering off" "reboot: Power down"
    refuse "Kernel panic" FAILED "BUG:" "WARNING: CPU" "dmesg: "
}

scenario kvm-l3 1800 "KVM in a guest of KVM: a Linux three levels down" nested
