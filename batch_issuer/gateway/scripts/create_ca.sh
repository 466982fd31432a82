# create_ca FACTORY: the root of trust, factory_ca.key and factory_ca.pem. It is made once.
main() {
    if [ $# -ne 1 ]; then
        echo "usage: create_ca FACTORY" >&2
        exit 2
    fi
    check_text "the factory's name" "$1"
    check_absent factory_ca.key
    check_absent factory_ca.pem
    start
    make_key
    write_names Factory-CA "$1"
    draw_serial
    run req -new -x509 -sha256 -days 7300 -config "$work/config" -key "$work/key" -set_serial "$serial" \
        >"$work/certificate"
    publish_pair factory_ca
}

main "$@"
