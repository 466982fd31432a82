// Judge reads a PKI directory and device bundles by the rules of Go's programs in this field: fioctl, which makes and
// keeps the directory, and the device gateway, which trusts its device CAs. Standard library only.
//
//	judge check DIR [BUNDLE...]   faults as JSON on stdout, `file: rule`; the reasons on stderr
//	judge make DIR FACTORY        a root and a device CA, as Go's programs make them
//	judge serve DIR               a device gateway; its address as JSON on stdout; ends when stdin does
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	arguments := os.Args[1:]
	switch {
	case len(arguments) >= 2 && arguments[0] == "check":
		report(check(arguments[1], arguments[2:]))
	case len(arguments) == 3 && arguments[0] == "make":
		must(makePki(arguments[1], arguments[2]))
	case len(arguments) == 2 && arguments[0] == "serve":
		must(serve(arguments[1]))
	default:
		fmt.Fprintln(os.Stderr, "usage: judge check DIR [BUNDLE...] | make DIR FACTORY | serve DIR")
		os.Exit(2)
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func report(value any) {
	if err := json.NewEncoder(os.Stdout).Encode(value); err != nil {
		panic(err)
	}
}
