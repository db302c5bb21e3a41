# shellcheck shell=bash
# KVM of Debian's kernel; Debian's QEMU starts a Linux under it (tools/guest/init-kvm says what the words mean).

# $@: words for L1's command line; those with blanks are "name=two words".
# KVM_READY: guest_kvm was called.
kvm() {
    local word
    [ -n "${KVM_READY:-}" ] || guest_kvm
    for word in "$@"; do
        APPEND+=" \"$word\""
    done
    options -m 1024 -kernel "$KERNEL" -initrd "$INITRD" -append "$APPEND"
    expect "matryoshka: userland is up" "L2| matryoshka: hello from the guest's userland" \
        "matryoshka: the guest powered off" "reboot: Power down"
    refuse "Kernel panic" FAILED "BUG:" "WARNING: CPU" "dmesg: "
}

# A parameter of a module, which must have been taken.
kvm_parameter() { # name, value as shown, words
    expect "  $1 = $2"
    shift 2
    kvm "$@"
}

# More files for L1: lines of an initramfs list, then words as above.
kvm_with() {
    local list=$SCRATCH/more.list
    printf '%s\n' "$1" >"$list"
    shift
    guest_kvm "$list"
    KVM_READY=1 kvm "$@"
}

kvm_cd() {
    inner_iso
    expect "L2| GRUB loads the guest's guest"
    kvm_with "file inner/boot.iso $ISO 644" "start=-cdrom /inner/boot.iso" "$@"
}

# With 128 MB the kernel runs off beyond the end of memory, under QEMU's TCG too.
kvm_ovmf() {
    fetch_package ovmf ./usr/share/ovmf/OVMF.fd
    expect "EFI v2.70 by EDK II"
    kvm_with "file OVMF.fd $FETCHED/usr/share/ovmf/OVMF.fd 644" "qemu=-bios /OVMF.fd -m 256" "inner=console=ttyS0 reboot=t" "$@"
}

kvm_processors() {
    expect "L2|   processors $1"
    shift
    kvm "$@"
}

# The host has several processors, and so has its guest.
kvm_on_processors() {
    options -smp "$1"
    kvm_processors "$2" "qemu=-smp $2"
    refuse "TSC warp" "unstable" "rcu: INFO" "soft lockup"
}

scenario kvm-pc 600 "KVM: a guest on -M pc" kvm board=pc
scenario kvm-q35 600 "KVM: a guest on -M q35" kvm board=q35
scenario kvm-microvm 600 "KVM: a guest on -M microvm" kvm board=microvm
scenario kvm-2-processors 900 "KVM: a guest with two processors" kvm_processors 2 "qemu=-smp 2"
scenario kvm-on-4-processors 1200 "KVM on four processors: a guest with two" kvm_on_processors 4 2
scenario kvm-split-irqchip 600 "KVM: the I/O APIC in QEMU" kvm board=pc,kernel-irqchip=split
# Without a local APIC of its own, KVM refuses QEMU's write of 0 to MSR 4B564D06h, and QEMU 7.2 aborts: so without that.
scenario kvm-no-irqchip 900 "KVM: all interrupt controllers in QEMU" \
    kvm board=pc,kernel-irqchip=off cpu=host,-kvm-asyncpf-int
scenario kvm-hyper-v 600 "KVM: Hyper-V enlightenments" \
    kvm cpu=host,hv-relaxed,hv-vapic,hv-time,hv-vpindex,hv-synic,hv-stimer,hv-runtime,hv-crash,hv-frequencies
scenario kvm-no-vpid 600 "KVM: vpid=0" kvm_parameter vpid N kvm_intel=vpid=0
scenario kvm-no-eptad 600 "KVM: eptad=0" kvm_parameter eptad N kvm_intel=eptad=0
scenario kvm-no-vnmi 600 "KVM: vnmi=0" kvm_parameter vnmi N kvm_intel=vnmi=0
scenario kvm-no-timer 600 "KVM: preemption_timer=0" kvm_parameter preemption_timer N kvm_intel=preemption_timer=0
scenario kvm-no-apicv 600 "KVM: enable_apicv=0" kvm_parameter enable_apicv N kvm_intel=enable_apicv=0
scenario kvm-no-ple 600 "KVM: ple_gap=0" kvm_parameter ple_gap 0 kvm_intel=ple_gap=0
scenario kvm-nothing 600 "KVM: vpid, eptad, vnmi, timer, ple off together" \
    kvm_parameter vpid N "kvm_intel=vpid=0 eptad=0 vnmi=0 preemption_timer=0 ple_gap=0"
scenario kvm-shadow-paging 1800 "KVM: ept=0, shadow paging" kvm_parameter ept N kvm_intel=ept=0
scenario kvm-no-tdp-mmu 600 "KVM: tdp_mmu=0, the older EPT code" kvm kvm=tdp_mmu=0
scenario kvm-no-unrestricted 1800 "KVM: unrestricted_guest=0, real mode in virtual-8086 mode" \
    kvm_parameter unrestricted_guest N kvm_intel=unrestricted_guest=0
scenario kvm-grub 900 "KVM: SeaBIOS boots GRUB from a CD, which loads the guest" kvm_cd board=pc
scenario kvm-grub-q35 900 "KVM: the same on -M q35" kvm_cd board=q35
scenario kvm-ovmf 1200 "KVM: a guest by UEFI (OVMF)" kvm_ovmf board=q35
scenario kvm-again 1800 "KVM: six guests, one after another" kvm repeat=6
