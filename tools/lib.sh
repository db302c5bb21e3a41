# shellcheck shell=bash disable=SC2034  # what is unused here is used by who sources this
# What the commands in tools/ share: messages, the host's Debian packages, the build, packages fetched for guests.
# To be sourced. Everything fetched or made here lands in .cache/ and build*/ of the clone; guests' packages
# are only unpacked there, never installed on the host.
#
# Exit statuses of the commands: 0 success; 2 usage; 65 a package, image or tool is missing and cannot be had;
# 66 the build failed; others are named where they are used.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${MATRYOSHKA_CACHE:-$ROOT/.cache}
BUILD=${MATRYOSHKA_BUILD:-$ROOT/build}
PROGRAM=${0##*/}
export LC_ALL=C.UTF-8

EX_USAGE=2
EX_MISSING=65
EX_BUILD=66

# The packages of the host, in one place.
PACKAGES_BUILD=(build-essential cmake ninja-build pkg-config libzydis-dev libcmocka-dev libelf-dev libedit-dev libzstd-dev zlib1g-dev acpica-tools)
PACKAGES_TOOLS=(python3)
PACKAGES_TEST=(libcapstone-dev shellcheck clang clang-format libclang-rt-dev)
PACKAGES_BROWSER=(chromium-headless-shell) # Chromium without windows: the smallest browser there is for tests/report
PACKAGES_KVM=(qemu-system-x86 seabios)
PACKAGES_GRUB=(grub-common grub-pc-bin xorriso mtools)
PACKAGES_BENCH=(qemu-system-x86 seabios bochs bochs-term bochsbios vgabios "${PACKAGES_GRUB[@]}")

say() { printf '%s: %s\n' "$PROGRAM" "$*" >&2; }

die() { # status, message
    local status=$1
    shift
    say "$*"
    exit "$status"
}

# What the command's file says of itself: the comment at its head.
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

no_option() { die $EX_USAGE "there is no option $1 (--help lists them)"; }

# A temporary folder of this run, removed at its end.
SCRATCH=
scratch() {
    [ -n "$SCRATCH" ] && return
    SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/matryoshka.XXXXXX")
    trap 'rm -rf "$SCRATCH"' EXIT
}

need_debian() {
    command -v apt-get >/dev/null || die $EX_MISSING "fetches what is missing as Debian packages; this host has no apt-get"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        return $EX_MISSING
    fi
}

can_be_root() { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }

# Options of apt-get and apt-cache for packages of another architecture (apt_of), which need no root; else none.
APT=()

apt_update() {
    local root=as_root
    [ ${#APT[@]} = 0 ] || root=
    say "updating the list of Debian packages"
    $root apt-get -qq "${APT[@]}" update >"$SCRATCH/apt.log" 2>&1 || {
        tail -n 5 "$SCRATCH/apt.log" >&2
        die $EX_MISSING "apt-get update failed"
    }
}

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Installs on the host those of the named packages that it has not.
ensure_packages() {
    local package missing=()
    need_debian
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    can_be_root ||
        die $EX_MISSING "missing: ${missing[*]}; neither root nor sudo here: install them, then run this again"
    scratch
    say "installing Debian packages: ${missing[*]}"
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}")
    if ! as_root "${install[@]}" >"$SCRATCH/apt.log" 2>&1; then
        apt_update
        as_root "${install[@]}" >"$SCRATCH/apt.log" 2>&1 || {
            tail -n 5 "$SCRATCH/apt.log" >&2
            die $EX_MISSING "apt-get could not install: ${missing[*]}"
        }
    fi
}

# Configures (once) and builds. First the folder, then cmake options up to "--", then ninja targets.
build_in() {
    local folder=$1 options=()
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    [ $# -gt 0 ] && shift
    [ -f "$ROOT/CMakeLists.txt" ] || die $EX_BUILD "no CMakeLists.txt in $ROOT: not a whole clone"
    mkdir -p "$folder"
    say "building in ${folder#"$ROOT"/}"
    if ! cmake -G Ninja -S "$ROOT" -B "$folder" "${options[@]}" >"$folder/configure.log" 2>&1; then
        tail -n 30 "$folder/configure.log" >&2
        die $EX_BUILD "cmake failed (all of it: $folder/configure.log)"
    fi
    if ! ninja -C "$folder" "$@" >"$folder/build.log" 2>&1; then
        grep -E 'error|FAILED|undefined' "$folder/build.log" | head -n 30 >&2 || tail -n 30 "$folder/build.log" >&2
        die $EX_BUILD "the build failed (all of it: $folder/build.log)"
    fi
}

build_release() { build_in "$BUILD" -DCMAKE_BUILD_TYPE=Release; }

# The machine that the demos run: ours, unless MATRYOSHKA names another with the same options.
# Sets MACHINE (an array: MATRYOSHKA may hold options too).
machine() {
    MACHINE=()
    if [ -n "${MATRYOSHKA:-}" ]; then
        read -r -a MACHINE <<<"$MATRYOSHKA"
        command -v "${MACHINE[0]}" >/dev/null || die $EX_MISSING "MATRYOSHKA names no program: ${MACHINE[0]}"
        return
    fi
    ensure_packages "${PACKAGES_BUILD[@]}" "${PACKAGES_TOOLS[@]}"
    build_release
    MACHINE=("$BUILD/matryoshka")
    [ -x "${MACHINE[0]}" ] || die $EX_BUILD "the build made no ${MACHINE[0]}"
}

# --- Debian packages for guests ---

# What apt needs to know another architecture, without a word of it to the host's own lists: sets APT.
apt_of() { # architecture
    local state=$CACHE/apt-$1
    APT=()
    [ "$1" != amd64 ] || return 0
    APT=(-o "APT::Architecture=$1" -o "APT::Architectures=$1" -o "Dir::State=$state" -o "Dir::State::lists=$state/lists"
        -o "Dir::State::status=$state/status" -o "Dir::Cache=$state/cache" -o APT::Sandbox::User=root
        -o Acquire::Languages=none)
    [ ! -f "$state/updated" ] || return 0
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    : >"$state/status"
    say "fetching the list of Debian packages of $1"
    apt-get -qq "${APT[@]}" update >"$SCRATCH/apt.log" 2>&1 || true # one archive of several may be amiss
    : >"$state/updated"
}

# The two halves of fetch_package; they set or use its variables "real" and "version".
# A kernel's meta-package stands for a real one: linux-image-cloud-amd64 for linux-image-6.1.0-N-cloud-amd64.
resolve_package() {
    real=$1
    case $1 in
    linux-image-amd64 | linux-image-cloud-amd64 | linux-image-686 | linux-image-686-pae)
        real=$(apt-cache "${APT[@]}" depends --important "$1" 2>/dev/null |
            sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
        [ -n "$real" ] || return 1
        ;;
    esac
    version=$(apt-cache "${APT[@]}" policy "$real" 2>/dev/null | sed -n 's/^  Candidate: //p')
    [ -n "$version" ] && [ "$version" != "(none)" ]
}

download_package() {
    (cd "$SCRATCH/deb" && apt-get -qq "${APT[@]}" -o APT::Sandbox::User=root download "$real=$version") >"$SCRATCH/apt.log" 2>&1
}

# fetch_package NAME[:i386] [PATTERN...]: unpacks NAME (only what matches the tar patterns, if any) under .cache/debian and
# sets FETCHED to the folder. A clone keeps the version that it fetched first, until .cache is removed.
fetch_package() {
    local name=${1%:*} architecture=amd64 key real version folder deb APT=()
    [ "$name" = "$1" ] || architecture=${1##*:}
    key=$name
    [ "$architecture" = amd64 ] || key=$name-$architecture
    shift
    FETCHED=$CACHE/debian/$key.$(printf '%s\n' "$@" | sha256sum | cut -c1-8)
    if [ -d "$FETCHED" ]; then
        FETCHED=$(realpath "$FETCHED")
        return
    fi
    need_debian
    scratch
    [ "$(dpkg --print-architecture)" = amd64 ] || die $EX_MISSING "fetches amd64 packages; this host is another"
    apt_of "$architecture"
    if ! resolve_package "$name"; then
        can_be_root || die $EX_MISSING "apt knows no package $name here; run as root: apt-get update"
        apt_update
        resolve_package "$name" || die $EX_MISSING "apt knows no package $name"
    fi
    mkdir -p "$CACHE/debian" "$SCRATCH/deb"
    say "fetching Debian's $real $version"
    if ! download_package; then
        # The list may be older than the archive.
        can_be_root || die $EX_MISSING "could not download $real $version; run as root: apt-get update"
        apt_update
        resolve_package "$name" || die $EX_MISSING "apt knows no package $name"
        if ! download_package; then
            tail -n 3 "$SCRATCH/apt.log" >&2
            die $EX_MISSING "could not download $real $version"
        fi
    fi
    deb=$(echo "$SCRATCH/deb/${real}"_*.deb)
    folder=$(basename "$FETCHED" | sed "s/^$key/$real${key#"$name"}_${version//[^A-Za-z0-9.+~-]/_}/")
    rm -rf "$CACHE/debian/$folder" "$CACHE/debian/$folder.part"
    mkdir "$CACHE/debian/$folder.part"
    if ! dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$CACHE/debian/$folder.part" --wildcards "$@"; then
        rm -rf "$CACHE/debian/$folder.part" "$deb"
        die $EX_MISSING "could not unpack $real $version"
    fi
    rm -f "$deb"
    mv "$CACHE/debian/$folder.part" "$CACHE/debian/$folder"
    ln -sfn "$folder" "$FETCHED"
    FETCHED=$CACHE/debian/$folder
}
