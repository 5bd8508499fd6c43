#!/bin/sh
# Runs a command where there is no network but loopback, and counts attempts to reach anything else:
#   sh deploy/airgap.sh make test
# A network namespace of its own has no route. Each packet, connection or look-up that has nowhere to go is counted by
# the kernel (OutNoRoutes in /proc/net/snmp and snmp6). Look-ups are sent to an address that nobody has (RFC 5737), since
# a host may have its resolver on loopback or behind a Unix socket, where they would not be counted. Exit status: the
# command's; 70 if it was well but something tried to leave; 69 if there is no such namespace to be had.
set -eu
if [ $# -eq 0 ]; then
    echo "Usage: sh deploy/airgap.sh COMMAND [ARGUMENT]..." >&2
    exit 64
fi
if [ "${LEXISEG_AIRGAP:-}" != inside ]; then
    for options in "--net --mount" "--net --mount --map-root-user"; do
        # shellcheck disable=SC2086  (several options)
        if unshare $options sh -c 'ip link set lo up && mount --bind /etc /etc' 2>/dev/null; then
            LEXISEG_AIRGAP=inside exec unshare $options sh "$0" "$@"
        fi
    done
    echo "No network namespace can be made here. Next: run it as root, on Linux with util-linux (unshare, mount)" >&2
    echo "and iproute2 (ip); in a container with the capability SYS_ADMIN." >&2
    exit 69
fi
unset LEXISEG_AIRGAP
ip link set lo up

kept=
# shellcheck disable=SC2086  (several files)
trap 'rm -f $kept' EXIT
replace() { # file, what it holds in here; a file that is not there needs no other
    if [ -e "$1" ]; then
        there=$(mktemp)
        printf '%s\n' "$2" > "$there"
        chmod 644 "$there"
        mount --bind "$there" "$1"
        kept="$kept $there" # not removed at once: on a file that is gone nothing can be mounted by a gap inside this one
    fi
}
replace /etc/resolv.conf "nameserver 192.0.2.1
options timeout:1 attempts:1"
replace /etc/nsswitch.conf "$(sed 's/^hosts:.*/hosts: files dns/' /etc/nsswitch.conf 2>/dev/null || true)"

attempts() {
    four=$(awk '$1 == "Ip:" { if (!seen++) { for (i = 2; i <= NF; i++) if ($i == "OutNoRoutes") place = i } else print $place }' /proc/net/snmp)
    six=$(awk '$1 == "Ip6OutNoRoutes" { print $2 }' /proc/net/snmp6 2>/dev/null || true)
    echo $(( four + ${six:-0} ))
}

status=0
"$@" || status=$?
found=$(attempts)
echo "air gap: $found attempts to reach anything but loopback" >&2
if [ "$status" -eq 0 ] && [ "$found" -ne 0 ]; then
    status=70
fi
exit "$status"
