# shellcheck shell=bash disable=SC2034  # what is unused here is used by who sources this
# The words in which a scenario of tools/soak is set up. To be sourced after lib-guests.sh.

expect() { EXPECT+=("$@"); }   # each TEXT must come in a line of the serial console
refuse() { REFUSE+=("$@"); }   # a line that matches one of these means failure
options() { OPTIONS+=("$@"); } # of the machine
endless() { STOP=1; }          # the guest does not end by itself: end it when all that is expected was seen
ends_with() { STATUS=$1; }     # the machine's exit status, where that is not 0

# The lines of an initramfs list for the program $2 of the host or of an unpacked package, as $1, and its libraries.
list_program() {
    local file
    printf 'file %s %s 755\n' "$1" "$2"
    ldd "$2" | grep -oE '/[^ ]+' | sort -u | while read -r file; do
        case $file in
        /lib*/* | /usr/lib*/*) printf 'file %s %s 755\n' "$file" "$(realpath "$file")" ;;
        *) printf 'file usr/lib/x86_64-linux-gnu/%s %s 755\n' "${file##*/}" "$(realpath "$file")" ;;
        esac
    done
}

# A CD with GRUB, which loads the inner guest: sets ISO.
inner_iso() {
    local tree=$SCRATCH/cd tool
    for tool in grub-mkrescue xorriso mformat; do
        command -v $tool >/dev/null || ensure_packages "${PACKAGES_GRUB[@]}"
    done
    guest_inner
    ISO=$GUESTS/inner-$(sha256sum "$INNER_KERNEL" "$INNER_INITRD" "${BASH_SOURCE[0]}" | sha256sum | cut -c1-16).iso
    [ ! -f "$ISO" ] || return 0
    mkdir -p "$tree/boot/grub"
    cp "$INNER_KERNEL" "$tree/vmlinuz"
    cp "$INNER_INITRD" "$tree/initrd"
    cat >"$tree/boot/grub/grub.cfg" <<'END'
serial --unit=0 --speed=115200
terminal_output serial
echo "GRUB loads the guest's guest"
linux /vmlinuz console=ttyS0 reboot=t
initrd /initrd
boot
END
    grub-mkrescue --directory=/usr/lib/grub/i386-pc --fonts= --themes= --locales= --compress=no -o "$ISO.part" "$tree" \
        --install-modules="biosdisk iso9660 normal configfile linux serial terminal echo boot" >"$SCRATCH/grub.log" 2>&1 ||
        die "$EX_MISSING" "grub-mkrescue: $(tail -n 1 "$SCRATCH/grub.log")"
    mv "$ISO.part" "$ISO"
}
