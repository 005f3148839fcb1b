# Sourced by scripts/run and scripts/test: the Debian packages they need. POSIX sh.
#
# A package is missing when what it gives is missing, however that came here: a Python from elsewhere is as good.

# A user's PATH on Debian lacks the folders of the network tools.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$(basename "$0"): $*"
    exit 1
}

has() { command -v "$1" > /dev/null 2>&1; }

# missing_packages WHAT...: prints the packages to install for `run` or `test`.
missing_packages() {
    if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
        echo python3 python3-venv python3-dev
    else
        python3 -c 'import ensurepip, venv' 2> /dev/null || echo python3-venv
        python3 -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || echo python3-dev
    fi
    has cc && has gcc || echo gcc libc6-dev
    has ip || echo iproute2
    has unshare && has nsenter || echo util-linux
    has mount || echo mount
    { has busybox && busybox udhcpc --help > /dev/null 2>&1; } || echo busybox
    has curl || echo curl
    [ "$1" = test ] || return 0
    has ping || echo iputils-ping
    has nft || echo nftables
    has dhclient || echo isc-dhcp-client
    has dhcpcd || echo dhcpcd-base
}

# as_root COMMAND...: run it as root, or fail if there is no way that needs no question.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif has sudo && { [ -t 0 ] || sudo -n true 2> /dev/null; }; then
        sudo "$@"
    else
        return 1
    fi
}

# need_packages WHAT: install what is missing for `run` or `test`, or name it and end.
need_packages() {
    missing=$(missing_packages "$1" | tr '\n' ' ')
    missing=${missing% }
    [ -n "$missing" ] || return 0
    install="apt-get install -y --no-install-recommends $missing"
    say "Debian packages missing: $missing"
    has apt-get || die "install what these packages give, by this system's own means"
    quiet="-qq -o Dpkg::Use-Pty=0"
    # shellcheck disable=SC2086 # both are lists of words
    if as_root apt-get update $quiet > /dev/null < /dev/null &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install $quiet -y --no-install-recommends $missing \
            > /dev/null < /dev/null
    then
        missing=$(missing_packages "$1" | tr '\n' ' ')
        [ -z "$missing" ] || die "still missing after the installation: $missing"
    else
        die "as root, run:  apt-get update && $install"
    fi
}

# unpack_packages NAME...: put the files of Debian packages below .cache/, in a folder named after the first, without
# installing them; fails quietly. For packages that would start services on the host.
unpack_packages() {
    [ ! -d ".cache/$1" ] || return 0
    has apt-get && has dpkg-deb || return 1
    part=.cache/$1.$$
    mkdir -p "$part/deb"
    status=0
    (
        cd "$part/deb" || exit
        # Without the sandbox: its user may not write here.
        fetch() { apt-get -q -o APT::Sandbox::User= download "$@"; }
        fetch "$@" || { as_root apt-get update -q && fetch "$@"; } || exit
        for package in *.deb; do
            dpkg-deb -x "$package" ../root || exit
        done
    ) > "$part/log" 2>&1 < /dev/null && mv "$part/root" ".cache/$1" || status=1
    rm -rf "$part"
    return $status
}
