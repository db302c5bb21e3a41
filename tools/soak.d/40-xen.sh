# shellcheck shell=bash
# Debian's Xen, with Debian's full kernel as dom0.

# xen DOM0 WORDS...: DOM0 is pvh (Xen runs dom0 under VMX and EPT) or pv. $MORE: more lines for dom0's initramfs.
xen() {
    local kind=$1 list=$SCRATCH/xen.list
    shift
    fetch_package xen-hypervisor-4.17-amd64 './boot/xen-*.gz'
    gunzip -c "$FETCHED"/boot/xen-*.gz >"$SCRATCH/xen"
    guest_busybox
    guest_kernel linux-image-amd64
    {
        list_busybox
        printf 'file init %s 755\n' "$ROOT/tools/guest/init-xen"
        [ -z "${MORE:-}" ] || printf '%s\n' "$MORE"
    } >"$list"
    make_initramfs xen "$list"
    # Without an IOMMU a PVH dom0 needs dom0-iommu=none.
    local how=dom0=pvh
    [ "$kind" = pvh ] || how=
    options -m 1024 -kernel "$SCRATCH/xen" \
        -append "console=com1 com1=115200,8n1 $how dom0_mem=512M dom0-iommu=none loglvl=all guest_loglvl=all noreboot=1 spec-ctrl=no xpti=no" \
        -initrd "$KERNEL console=hvc0 earlyprintk=xen mitigations=off agp=off iommu=off $*,$INITRD"
    expect "Xen version 4.17" "matryoshka: dom0's userland is up"
    [ $STOP = 1 ] || expect "matryoshka: powering off"
    refuse "Kernel panic" "Panic on CPU" FAILED "BUG:" "Xen BUG" "WARNING: CPU" "FATAL TRAP"
}

scenario xen-dom0-pvh 900 "Xen 4.17, dom0 under VMX (PVH)" xen pvh
scenario xen-dom0-pv 900 "Xen 4.17, dom0 without VMX (PV)" xen pv

# The toolstack with all its libraries, and guests for it. $1: the guest's kind; an HVM guest has QEMU too, and boots from a CD.
xen_tools() {
    local package libraries='' tool
    for package in libxencall1 libxendevicemodel1 libxenevtchn1 libxenforeignmemory1 libxengnttab1 libxenhypfs1 \
        libxenmisc4.17 libxenstore4 libxentoolcore1 libxentoollog1 libyajl2; do
        fetch_package $package
        libraries+=:$FETCHED/usr/lib/x86_64-linux-gnu
    done
    guest_inner
    fetch_package linux-image-amd64 './boot/vmlinuz-*' './lib/modules/*/kernel/drivers/xen/*'
    local module
    for module in "$FETCHED"/lib/modules/*/kernel/drivers/xen/{xen-evtchn,xen-gntdev,xen-gntalloc,xen-privcmd,xenfs/xenfs}.ko; do
        [ ! -f "$module" ] || printf 'file modules/%s %s 644\n' "${module##*/}" "$module"
    done
    printf 'file inner/vmlinuz %s 644\nfile inner/initrd %s 644\n' "$FETCHED"/boot/vmlinuz-* "$INNER_INITRD"
    fetch_package xen-utils-4.17
    for tool in xl libxl-save-helper xenstored xenconsoled xen-init-dom0; do
        LD_LIBRARY_PATH=${libraries#:} list_program "usr/lib/xen-4.17/bin/$tool" "$FETCHED/usr/lib/xen-4.17/bin/$tool"
    done
    if [ "$1" = hvm ]; then
        inner_iso
        printf 'file boot.iso %s 644\n' "$ISO"
        fetch_package qemu-system-xen ./usr/libexec/xen-qemu-system-i386
        tool=usr/libexec/xen-qemu-system-i386
        LD_LIBRARY_PATH=${libraries#:} list_program $tool "$FETCHED/$tool"
        printf 'file usr/share/qemu/keymaps/en-us %s 644\n' /usr/share/qemu/keymaps/en-us
        printf 'file usr/share/seabios/bios-256k.bin %s 644\n' /usr/share/seabios/bios-256k.bin
    fi
    fetch_package xen-utils-4.17
    # Loaded at the first pthread_cancel.
    printf 'file lib/x86_64-linux-gnu/libgcc_s.so.1 %s 644\n' "$(realpath /lib/x86_64-linux-gnu/libgcc_s.so.1)"
    printf 'file usr/lib/xen-4.17/boot/hvmloader %s 644\n' "$FETCHED/usr/lib/xen-4.17/boot/hvmloader"
}

xen_guest() { # dom0, guest
    xen_tools "$2" >"$SCRATCH/tools.list"
    MORE=$(sort -u "$SCRATCH/tools.list") xen "$1" "guest=$2"
    expect "matryoshka: the toolstack runs" "L2| matryoshka: hello from the guest's userland" \
        "matryoshka: the guest powered off"
}

scenario xen-pvh-guest 1500 "Xen: a PVH guest by xl, under a PVH dom0" xen_guest pvh pvh
scenario xen-pv-guest 1500 "Xen: a PV guest by xl, under a PVH dom0" xen_guest pvh pv
scenario xen-pv-pvh-guest 1500 "Xen: a PVH guest by xl, under a PV dom0" xen_guest pv pvh

# hvmloader and SeaBIOS speak through Xen's own console.
xen_seabios() {
    ensure_packages "${PACKAGES_KVM[@]}" # Xen's QEMU is linked with the same libraries
    xen_tools hvm >"$SCRATCH/tools.list"
    endless
    MORE=$(sort -u "$SCRATCH/tools.list") xen pvh guest=hvm
    expect "(d1) Invoking SeaBIOS" "(d1) SeaBIOS (version" "(d1) Booting from DVD/CD"
}

scenario xen-hvm-seabios 1500 "Xen: an HVM guest by xl: hvmloader, SeaBIOS, to its boot from a CD" xen_seabios
