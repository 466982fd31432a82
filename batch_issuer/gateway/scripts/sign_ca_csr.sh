# sign_ca_csr CSR: the certificate of the device CA that has made the request, online-ca, on stdout.
main() {
    if [ $# -ne 1 ]; then
        echo "usage: sign_ca_csr CSR" >&2
        exit 2
    fi
    start
    check_root
    read_request "$1"
    sign_device_ca
    cat "$work/certificate"
}

main "$@"
