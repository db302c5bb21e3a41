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
