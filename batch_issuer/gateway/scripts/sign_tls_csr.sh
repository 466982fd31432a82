# sign_tls_csr CSR: the certificate of the server that has made the request, the device gateway, on stdout.

# The DNS names that the request asks for, in their order, as `DNS:a,DNS:b`.
requested_hosts() {
    run req -in "$work/csr" -noout -text >"$work/text"
    sed -n '/X509v3 Subject Alternative Name/{n;p;}' "$work/text" | tr ',' '\n' | sed -n 's/^ *DNS://p' >"$work/hosts"
    if [ ! -s "$work/hosts" ]; then fail "$1 must name its server in subjectAltName; it has no DNS name"; fi
    hosts=''
    while IFS= read -r host; do
        case $host in
            *[!A-Za-z0-9.-]*) fail "$1 must name servers by their DNS names; it has $host" ;;
        esac
        hosts=$hosts${hosts:+,}DNS:$host
    done <"$work/hosts"
}

main() {
    if [ $# -ne 1 ]; then
        echo "usage: sign_tls_csr CSR" >&2
        exit 2
    fi
    start
    check_root
    read_request "$1"
    requested_hosts "$1"
    echo "signing for $hosts" >&2
    cat >"$work/extensions" <<EXTENSIONS
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = $hosts
authorityKeyIdentifier = keyid:always
EXTENSIONS
    # From 3.0 on there would be a key identifier unless told otherwise; before, `none` is no word for it.
    case $(openssl version) in
        "OpenSSL 1."* | LibreSSL*) ;;
        *) echo "subjectKeyIdentifier = none" >>"$work/extensions" ;;
    esac
    sign
    cat "$work/certificate"
}

main "$@"
