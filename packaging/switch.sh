# Read by durable, own-journal and tls. Each of them is one drop-in in ackd.service and in
# ackd@.service, for all further instances; when a switch fails, everything is as it was before.

units='ackd.service ackd@.service'

# begin NAME: remember the drop-in NAME.conf as it is.
begin() {
    dropin=$1.conf
    before=$(mktemp -d)
    trap 'rm -rf "$before"' EXIT
    # A service that could not start before does not start in `restore` either, and would be waited
    # for.
    no_block=
    systemctl --quiet is-active ackd.service || no_block=--no-block
    for unit in $units; do
        [ ! -e "$(path_in "$unit")" ] || cp "$(path_in "$unit")" "$before/$unit"
    done
}

path_in() {
    echo "/etc/systemd/system/$1.d/$dropin"
}

put() {
    mkdir -p "${2%/*}"
    cp "$1" "$2"
}

remove() {
    rm -f "$1"
    [ ! -d "${1%/*}" ] || rmdir --ignore-fail-on-non-empty "${1%/*}"
}

# switch_on FILE: make FILE the drop-in, and have the running instances use it.
switch_on() {
    for unit in $units; do
        put "$1" "$(path_in "$unit")"
    done
    restart
}

switch_off() {
    for unit in $units; do
        remove "$(path_in "$unit")"
    done
    restart
}

restart() {
    systemctl daemon-reload || restore
    systemctl try-restart ackd.service 'ackd@*.service' || restore
}

restore() {
    for unit in $units; do
        if [ -e "$before/$unit" ]; then
            put "$before/$unit" "$(path_in "$unit")"
        else
            remove "$(path_in "$unit")"
        fi
    done
    systemctl daemon-reload
    systemctl try-restart $no_block ackd.service 'ackd@*.service' || true
    echo "$0: failed; everything is as it was before" >&2
    exit 1
}
