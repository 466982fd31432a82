# create_device_ca COMMON_NAME FACTORY [NAME]: a device CA of the factory's own, NAME.key and NAME.pem (local-ca).
main() {
    if [ $# -lt 2 ] || [ $# -gt 3 ]; then
        echo "usage: create_device_ca COMMON_NAME FACTORY [NAME]" >&2
        exit 2
    fi
    name=${3-local-ca}
    check_text "the common name" "$1"
    check_text "the factory's name" "$2"
    check_text "the file name" "$name"
    case $name in
        */* | .* | -* | factory_ca) fail "NAME must be a plain file name without a suffix; it is $name" ;;
    esac
    check_absent "$name.key"
    check_absent "$name.pem"
    start
    check_root
    make_key
    write_names "$1" "$2"
    run req -new -sha256 -config "$work/config" -key "$work/key" >"$work/csr"
    check_factory "a device CA"
    sign_device_ca
    publish_pair "$name"
}

main "$@"
