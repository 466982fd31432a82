package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"
)

// A device gateway as the field's open one: client certificates are verified if given, device CAs are the anchors and
// the root is not; who gives none is answered 403, who gives one its common name.
func serve(directory string) error {
	server, err := tls.LoadX509KeyPair(filepath.Join(directory, "tls-crt"), filepath.Join(directory, "gateway", "tls.key"))
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(directory, "ca-crt"))
	if err != nil {
		return err
	}
	anchors := x509.NewCertPool()
	if !anchors.AppendCertsFromPEM(text) {
		return fmt.Errorf("ca-crt holds no certificate")
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{server},
		ClientAuth:   tls.VerifyClientCertIfGiven,
		ClientCAs:    anchors,
		MinVersion:   tls.VersionTLS12,
	})
	if err != nil {
		return err
	}
	report(map[string]int{"port": listener.Addr().(*net.TCPAddr).Port})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = listener.Close()
	}()
	for {
		connection, err := listener.Accept()
		if err != nil {
			return nil
		}
		go answer(connection.(*tls.Conn))
	}
}

// One request, of which only the first line is looked at, and one answer.
func answer(connection *tls.Conn) {
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(20 * time.Second))
	if err := connection.Handshake(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	reader := bufio.NewReader(connection)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return
		}
		if line == "\r\n" {
			break
		}
	}
	status, text := "403 Forbidden", "no client certificate provided"
	if peers := connection.ConnectionState().PeerCertificates; len(peers) > 0 {
		status, text = "200 OK", peers[0].Subject.CommonName
	}
	fmt.Fprintf(connection, "HTTP/1.0 %s\r\nContent-Length: %d\r\n\r\n%s", status, len(text), text)
}
