# shellcheck shell=sh
# Sourced by the scripts beside it: what they share. POSIX sh; Debian and Ubuntu have all that it
# calls (coreutils, util-linux, bash) without installing anything.
#
# Data goes to stdout, messages to stderr. Package managers are used as they are configured here.

checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "${0##*/}: $*"
    exit 1
}

# help_if_asked "$@": with --help, prints what stands at the head of the script, and ends.
help_if_asked() {
    case ${1:-} in
        -h | --help)
            sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
    esac
}

# quietly COMMAND...: its output is shown only if it fails, its exit status is kept.
quietly() {
    quiet_log=$(mktemp)
    if "$@" >"$quiet_log" 2>&1; then
        rm -f "$quiet_log"
    else
        quiet_status=$?
        cat "$quiet_log" >&2
        rm -f "$quiet_log"
        return "$quiet_status"
    fi
}

# wait_for SECONDS COMMAND...: until it succeeds, looking ten times a second.
wait_for() {
    deadline=$(($(date +%s) + $1))
    shift
    until "$@"; do
        [ "$(date +%s)" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# as_root COMMAND...
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold "$@" </dev/null
}

# install_packages PACKAGE...: with apt-get. The package lists are fetched only if those that are
# here know no such package, or name a version that is no longer to be had.
install_packages() {
    command -v apt-get >/dev/null ||
        die "this needs: $* (or what your system calls them); install them and run it again"
    [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null ||
        die "this needs root once: apt-get install $*"
    say "installing $* ..."
    apt_get install --no-install-recommends "$@" >/dev/null 2>&1 && return
    quietly apt_get update || die "apt-get update failed"
    quietly apt_get install --no-install-recommends "$@" || die "could not install: $*"
}

python_is_enough() {
    python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# need_python: a python3 that can make a virtual environment.
need_python() {
    python_is_enough && return
    install_packages python3 python3-venv
    python_is_enough || die "Python 3.11 or later is needed; python3 here is $(python3 -V 2>&1)"
}

# need_environment REQUIREMENT: the checkout's virtual environment .venv with what pip calls "." (the
# project, editable, and its dependencies) or ".[test]". Done again only when pyproject.toml has
# changed or the checkout was moved. Two scripts at once take turns.
# shellcheck disable=SC2094 # the checkout, a directory, is opened only to be locked
need_environment() {
    need_python
    (
        flock 8
        venv=$checkout/.venv
        stamp="$checkout $(cksum <"$checkout/pyproject.toml")"
        [ "$(cat "$venv/installed-$1" 2>/dev/null)" = "$stamp" ] && "$venv/bin/python" -c '' && exit
        say "preparing $venv ..."
        works "$venv" || quietly python3 -m venv --clear "$venv" || die "could not make $venv"
        quietly "$venv/bin/python" -m pip install -q -e "$checkout${1#.}" ||
            die "could not install the project's dependencies with pip"
        printf '%s\n' "$stamp" >"$venv/installed-$1"
    ) 8<"$checkout" || exit 1
}

# The environment's programs name its Python by its full path, so a moved one doesn't work.
works() {
    "$1/bin/pip" --version >/dev/null 2>&1
}

# need_peer: the programs of openmsistream, which the peer's wire is tried and measured with, in an
# environment of their own, .venv-peer; KFD_PEER names it, or another one that has them. They are
# installed as whoever wrote them published them, and never in kfd's environment: they are GPL.
# shellcheck disable=SC2094 # as above
need_peer() {
    [ -z "${KFD_PEER:-}" ] || return 0
    need_python
    export KFD_PEER="$checkout/.venv-peer"
    (
        flock 8
        stamp="$checkout openmsistream==1.8.8"
        [ "$(cat "$KFD_PEER/installed" 2>/dev/null)" = "$stamp" ] && "$KFD_PEER/bin/python" -c '' &&
            exit
        say "preparing $KFD_PEER ..."
        works "$KFD_PEER" || quietly python3 -m venv --clear "$KFD_PEER" ||
            die "could not make $KFD_PEER"
        quietly "$KFD_PEER/bin/python" -m pip install -q "${stamp##* }" ||
            die "could not install openmsistream with pip"
        printf '%s\n' "$stamp" >"$KFD_PEER/installed"
    ) 8<"$checkout" || exit 1
}

# need_fault_tools: what faults are made with, if this is root; elsewhere those tests are skipped.
need_fault_tools() {
    [ "$(id -u)" -eq 0 ] || return 0
    set --
    command -v strace >/dev/null || set -- "$@" strace
    command -v faketime >/dev/null || set -- "$@" faketime
    command -v cc >/dev/null || set -- "$@" gcc libc6-dev # tests/faults/clock_shim.c
    command -v mkfs.ext4 >/dev/null || set -- "$@" e2fsprogs
    command -v ip >/dev/null || set -- "$@" iproute2
    [ $# -eq 0 ] || install_packages "$@"
}

# need_promtool: Prometheus's program that tries alerts, out of its package: installed, that would
# also start a Prometheus. Where it isn't to be had these tests are skipped; the package lists are
# fetched for it only if this is root.
need_promtool() {
    command -v promtool >/dev/null && return
    tools=$checkout/.promtool
    if [ ! -x "$tools/usr/bin/promtool" ] && command -v apt-get >/dev/null; then
        say "fetching promtool ..."
        fetch_promtool || { [ "$(id -u)" -eq 0 ] && quietly apt_get update && fetch_promtool; } ||
            say "there is none to be had"
    fi
    PATH=$PATH:$tools/usr/bin
}

fetch_promtool() {
    rm -rf "$tools"
    mkdir -p "$tools"
    (
        cd "$tools" && apt-get -q download prometheus &&
            dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool && rm ./*.deb
    ) >/dev/null 2>&1
}

# own_broker NAME: one in a directory of its own, so that a user's is left alone; ended and removed
# on exit, with those that tests have beside it. Two runs of that name take turns; what a killed run
# left is ended first.
own_broker() {
    own_name=$1
    export KFD_BROKER_DIR="$checkout/.kfd-broker/$own_name"
    mkdir -p "$KFD_BROKER_DIR"
    exec 7>"$checkout/.kfd-broker/$own_name.lock"
    flock -n 7 || { say "waiting for another scripts/$own_name ..."; flock 7; }
    trap 'end_own_brokers && rm -rf "$KFD_BROKER_DIR"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    end_own_brokers
    KFD_BOOTSTRAP=$(sh "$checkout/scripts/broker" start 7>&-)
    export KFD_BOOTSTRAP="${KFD_BOOTSTRAP#KFD_BOOTSTRAP=}"
}

# end_own_brokers: in its directory, and in those named own-* below it (tests/conftest.py).
end_own_brokers() {
    for one in "$KFD_BROKER_DIR" "$KFD_BROKER_DIR"/own-*; do
        [ ! -d "$one" ] ||
            KFD_BOOTSTRAP='' KFD_BROKER_DIR=$one sh "$checkout/scripts/broker" stop --purge ||
            return 1
    done
}
