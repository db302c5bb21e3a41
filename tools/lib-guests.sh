# shellcheck shell=bash disable=SC2034  # what is unused here is used by who sources this
# The guests of demos, tests and bench, made from Debian's packages. To be sourced after lib.sh.
#
# guest_linux, guest_kvm and guest_bench each set KERNEL, INITRD and APPEND; files are kept by a key of all that went
# into them, so a second run only computes the key. The kernels are Debian's, byte for byte.

GUESTS=$CACHE/guests

# A static busybox in BUSYBOX, from Debian's package; of architecture $1, where that is given.
guest_busybox() {
    fetch_package "busybox-static${1:+:$1}" './bin/busybox'
    BUSYBOX=$FETCHED/bin/busybox
}

# Debian's kernel package $1: sets KERNEL (the bzImage) and MODULES (the folder of its KVM modules and what they use;
# ccp is what kvm-amd uses in the full kernel).
guest_kernel() {
    local want=('./boot/vmlinuz-*' './lib/modules/*/kernel/arch/x86/kvm/*' './lib/modules/*/kernel/virt/*')
    [ "$1" = linux-image-amd64 ] && want+=('./lib/modules/*/kernel/drivers/crypto/ccp/ccp.ko')
    fetch_package "$1" "${want[@]}"
    KERNEL=$(echo "$FETCHED"/boot/vmlinuz-*)
    MODULES=$(echo "$FETCHED"/lib/modules/*/kernel)
    [ -f "$KERNEL" ] || die "$EX_MISSING" "$1 holds no kernel"
}

# The lines of an initramfs list for a userland of busybox: every applet by its name. $1: another that tells their names,
# where this one cannot run on the host.
list_busybox() {
    local applet
    printf 'dir %s 755\n' bin sbin etc proc sys dev root usr/bin usr/sbin
    printf 'dir tmp 1777\nfile bin/busybox %s 755\n' "$BUSYBOX"
    for applet in $("${1:-$BUSYBOX}" --list); do
        [ "$applet" = busybox ] || printf 'link bin/%s busybox\n' "$applet"
    done
}

# make_initramfs NAME LIST [OPTION]: sets INITRD to the image of that list.
make_initramfs() {
    local key
    key=$("$ROOT/tools/mkcpio" --key "$2")
    INITRD=$GUESTS/$1-$key.cpio${3:+.lz4}
    [ -f "$INITRD" ] && return
    mkdir -p "$GUESTS"
    say "making the initramfs of guest \"$1\""
    "$ROOT/tools/mkcpio" ${3:+"$3"} "$2" "$INITRD"
}

# guest_linux [ARCHITECTURE of the userland]
guest_linux() {
    local list sum names
    scratch
    list=$SCRATCH/linux.list
    guest_busybox
    names=$BUSYBOX
    [ -z "${1:-}" ] || guest_busybox "$1"
    guest_kernel linux-image-cloud-amd64
    sum=$SCRATCH/busybox.sha256
    printf '%s  /bin/busybox\n' "$(sha256sum <"$BUSYBOX" | cut -d' ' -f1)" >"$sum"
    {
        list_busybox "$names"
        printf 'file init %s 755\n' "$ROOT/tools/guest/init-linux"
        printf 'file session %s 644\n' "$ROOT/tools/guest/session"
        printf 'file busybox.sha256 %s 644\n' "$sum"
    } >"$list"
    make_initramfs linux "$list"
    APPEND="console=ttyS0 mitigations=off"
}

# The guest of the guest: sets INNER_KERNEL and INNER_INITRD.
guest_inner() {
    local list
    scratch
    list=$SCRATCH/inner.list
    guest_busybox
    guest_kernel linux-image-cloud-amd64
    INNER_KERNEL=$KERNEL
    {
        printf 'dir proc 755\nfile bin/busybox %s 755\n' "$BUSYBOX"
        printf 'link bin/%s busybox\n' sh mount uname sed head grep poweroff
        printf 'file init %s 755\n' "$ROOT/tools/guest/init-inner"
    } >"$list"
    make_initramfs inner "$list"
    INNER_INITRD=$INITRD
}

# KVM's modules. kvm-amd is there so that a processor with SVM can show the same.
list_kvm_modules() {
    local module
    for module in virt/lib/irqbypass arch/x86/kvm/kvm arch/x86/kvm/kvm-intel arch/x86/kvm/kvm-amd drivers/crypto/ccp/ccp; do
        [ ! -f "$MODULES/$module.ko" ] ||
            printf 'file modules/%s.ko %s/%s.ko 644\n' "${module##*/}" "$MODULES" "$module"
    done
}

# Debian's QEMU with the libraries that it is linked with and the firmware of its machines.
list_qemu() {
    local qemu=/usr/bin/qemu-system-x86_64 file
    printf 'file usr/bin/qemu-system-x86_64 %s 755\n' "$qemu"
    ldd "$qemu" | grep -oE '/[^ ]+' | sort -u | while read -r file; do
        printf 'file %s %s 755\n' "$file" "$(realpath "$file")"
    done
    for file in bios-256k.bin bios-microvm.bin linuxboot_dma.bin kvmvapic.bin; do
        if [ -f "/usr/share/qemu/$file" ]; then
            printf 'file usr/share/qemu/%s /usr/share/qemu/%s 644\n' "$file" "$file"
        else
            printf 'file usr/share/qemu/%s /usr/share/seabios/%s 644\n' "$file" "$file"
        fi
    done
}

# guest_kvm [FILE]: with FILE, these lines of an initramfs list too.
guest_kvm() {
    local list
    ensure_packages "${PACKAGES_KVM[@]}"
    guest_inner
    scratch
    list=$SCRATCH/kvm.list
    guest_kernel linux-image-amd64
    {
        list_busybox
        list_qemu
        list_kvm_modules
        printf 'file inner/vmlinuz %s 644\nfile inner/initrd %s 644\n' "$INNER_KERNEL" "$INNER_INITRD"
        printf 'file init %s 755\n' "$ROOT/tools/guest/init-kvm"
        [ -z "${1:-}" ] || cat "$1"
    } >"$list"
    make_initramfs kvm "$list"
    APPEND="console=ttyS0 mitigations=off"
}

# The workloads of tools/bench as one static program, in a userland that has nothing else to do.
guest_bench() {
    local list folder=$ROOT/tools/bench-guest key
    ensure_packages gcc libc6-dev
    scratch
    key=$({ gcc -dumpfullversion && cat "$folder"/*.[ch]; } | sha256sum | cut -c1-16)
    if [ ! -f "$GUESTS/bench-$key" ]; then
        mkdir -p "$GUESTS"
        gcc -static -O2 -march=x86-64 -Wall -Wextra -Wno-missing-field-initializers -s -o "$GUESTS/bench-$key.part" \
            "$folder"/*.c || die "$EX_BUILD" "the bench's guest program does not build"
        mv "$GUESTS/bench-$key.part" "$GUESTS/bench-$key"
    fi
    list=$SCRATCH/bench.list
    guest_busybox
    guest_kernel linux-image-cloud-amd64
    {
        printf 'dir %s 755\n' proc sys dev
        printf 'file bin/busybox %s 755\nlink bin/sh busybox\n' "$BUSYBOX"
        printf 'file bench %s 755\nfile init %s 755\n' "$GUESTS/bench-$key" "$ROOT/tools/guest/init-bench"
        list_kvm_modules
    } >"$list"
    make_initramfs bench "$list"
    APPEND="console=ttyS0 quiet mitigations=off"
}

# guest_l3: L1's memory holds L2's guest as well. L1 and L2 are both tools/guest/init-kvm: L2's kernel and userland are those
# that L1 has in guest_kvm, and its guest, L3, is what L2 is there. L1 wants 2 GiB: it holds L2's memory, and L2's initramfs
# twice beside QEMU.
guest_l3() {
    local list
    guest_kvm
    scratch
    list=$SCRATCH/nested.list
    printf 'file inner/vmlinuz %s 644\nfile inner/initrd %s 644\n' "$KERNEL" "$INITRD" >"$list"
    guest_kvm "$list"
    APPEND+=' "qemu=-m 1024" "inner=console=ttyS0 reboot=t quiet level=2"'
}
