#!/bin/sh
# A factory's own PKI with openssl (3.0 or 1.1.1), in the current directory. Run by `sh FILE …` or `sh -s … <FILE`.
set -eu
LC_ALL=C
export LC_ALL
work='' made_key=''

fail() {
    printf 'error: %s\n' "$1" >&2
    exit 1
}

finish() {
    code=$?
    trap - EXIT
    if [ "$code" -ne 0 ] && [ -n "$made_key" ]; then rm -f "./$made_key"; fi
    if [ -n "$work" ]; then rm -rf "$work"; fi
    exit "$code"
}

# Beside the PKI's files, so that a key never lies on another file system and a link(2) can publish it whole.
start() {
    trap finish EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    umask 077
    work=$(mktemp -d ./.openssl.XXXXXX) || fail "a folder cannot be made in this directory"
}

# openssl, which is heard only when it fails.
run() {
    openssl "$@" 2>"$work/log" </dev/null || {
        cat "$work/log" >&2
        fail "openssl $1 refused; what it said is above"
    }
}

check_text() {
    case $2 in
        '') fail "$1 must not be empty" ;;
        *[[:cntrl:]]*) fail "$1 must have no control characters" ;;
    esac
}

check_absent() {
    if [ -e "$1" ] || [ -L "$1" ]; then fail "$1 is there already, and nothing of a PKI is overwritten"; fi
}

# The organizational units of a subject go to $units, one a line; $1 is `x509` or `req`, $2 the file. Control characters
# come escaped: a line feed in a name makes no line.
read_units() {
    run "$1" -in "$2" -noout -subject -nameopt utf8,esc_ctrl,sep_multiline,sname >"$work/subject"
    units=$(sed -n 's/^ *OU=//p' "$work/subject")
}

check_root() {
    for file in factory_ca.pem factory_ca.key; do
        if [ ! -f "$file" ]; then fail "$file is not in this directory; create_ca makes it"; fi
    done
    openssl x509 -in factory_ca.pem -noout -checkend 0 >"$work/log" 2>&1 || fail "factory_ca.pem is not valid any more"
}

# The request in $work/csr, which $1 calls by name, is the factory's.
check_factory() {
    read_units x509 factory_ca.pem
    factory=$units
    read_units req "$work/csr"
    if [ "$units" != "$factory" ]; then
        fail "$1 must have the root's organizational unit (OU), $factory; it has ${units:-none}"
    fi
}

# A P-256 key: one SEC1 block, which is what fioctl reads.
make_key() {
    run ecparam -name prime256v1 -genkey -noout >"$work/key"
    case $(cat "$work/key") in
        "-----BEGIN EC PRIVATE KEY-----"*) ;;
        *) fail "this openssl writes keys in another form than SEC1" ;;
    esac
}

# Names come through the environment: text there is not parsed, so quotes, $, # and \ stand for themselves.
write_names() {
    export COMMON_NAME="$1" UNIT_NAME="$2"
    cat >"$work/config" <<'CONFIG'
[req]
prompt = no
utf8 = yes
string_mask = utf8only
distinguished_name = names
x509_extensions = root
[names]
CN = ${ENV::COMMON_NAME}
OU = ${ENV::UNIT_NAME}
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
CONFIG
}

# 152 random bits go to $serial.
draw_serial() {
    run rand -hex 19 >"$work/serial"
    serial=0x$(cat "$work/serial")
}

# $1 becomes $2, mode 0400 from its first moment; never over what is there.
publish() {
    chmod 0400 "$1"
    ln "$1" "./$2" 2>/dev/null || fail "$2 cannot be made: it is there already, or this file system has no links"
}

# The new key and its certificate become $1.key and $1.pem: both, or none.
publish_pair() {
    trap '' HUP INT TERM
    publish "$work/key" "$1.key"
    made_key=$1.key
    publish "$work/certificate" "$1.pem"
}

# The one request in the file $1, for a P-256 key, of this factory, to $work/csr. Its signature is checked by `x509`.
read_request() {
    cat <"$1" >"$work/csr" || fail "$1 cannot be read"
    if [ "$(grep -c -e '-----BEGIN ' "$work/csr")" != 1 ]; then fail "$1 must be one PEM certificate request"; fi
    run req -in "$work/csr" -noout -pubkey >"$work/public"
    # What the SubjectPublicKeyInfo of every uncompressed point on P-256 begins with (RFC 5480).
    if ! grep -q '^MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE' "$work/public"; then fail "$1 must be for a P-256 key"; fi
    check_factory "$1"
}

# The root signs $work/csr with the extensions in $work/extensions, to $work/certificate.
sign() {
    openssl x509 -in factory_ca.pem -noout -checkend 315360000 >"$work/log" 2>&1 ||
        printf 'warning: factory_ca.pem ends before the 3650 days of what it signs\n' >&2
    draw_serial
    run x509 -req -sha256 -days 3650 -in "$work/csr" -CA factory_ca.pem -CAkey factory_ca.key \
        -set_serial "$serial" -extfile "$work/extensions" >"$work/certificate"
}

sign_device_ca() {
    cat >"$work/extensions" <<'EXTENSIONS'
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
EXTENSIONS
    sign
}

