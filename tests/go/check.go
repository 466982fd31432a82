package main

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Verdict is what a directory and bundles are found to be.
type Verdict struct {
	Faults    []string `json:"faults"`     // `file: rule`, in the order of the checks
	DeviceCas []string `json:"device_cas"` // the files of the device CAs, without suffix
	Hosts     []string `json:"hosts"`      // the DNS names of tls-crt, in order
}

type judge struct {
	Verdict
	directory string
	root      *x509.Certificate
	rootKey   *ecdsa.PrivateKey
}

func (j *judge) fault(file, rule string, err error) {
	j.Faults = append(j.Faults, file+": "+rule)
	fmt.Fprintf(os.Stderr, "%s: %s: %v\n", file, rule, err)
}

func check(directory string, bundles []string) Verdict {
	j := &judge{directory: directory, Verdict: Verdict{Faults: []string{}, DeviceCas: []string{}, Hosts: []string{}}}
	j.readRoot()
	if j.root == nil {
		return j.Verdict
	}
	j.readDeviceCas()
	j.readServer()
	for _, bundle := range bundles {
		j.readBundle(bundle)
	}
	return j.Verdict
}

// One PEM block and no octet after it, as fioctl reads its files.
func (j *judge) block(path string) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		j.fault(filepath.Base(path), "there", err)
		return nil
	}
	first, rest := pem.Decode(text)
	if first == nil || len(rest) > 0 {
		j.fault(filepath.Base(path), "one-block", fmt.Errorf("%d octets are left", len(rest)))
		return nil
	}
	return first.Bytes
}

func (j *judge) certificate(path string) *x509.Certificate {
	der := j.block(path)
	if der == nil {
		return nil
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		j.fault(filepath.Base(path), "certificate", err)
	}
	return certificate
}

// A CA's key: SEC1, and its certificate's.
func (j *judge) key(path string, certificate *x509.Certificate) *ecdsa.PrivateKey {
	der := j.block(path)
	if der == nil {
		return nil
	}
	key, err := x509.ParseECPrivateKey(der)
	if err != nil {
		j.fault(filepath.Base(path), "sec1", err)
		return nil
	}
	if certificate != nil && !key.PublicKey.Equal(certificate.PublicKey) {
		j.fault(filepath.Base(path), "pair", errors.New("the certificate is for another key"))
	}
	return key
}

func (j *judge) verify(file string, certificate *x509.Certificate, options x509.VerifyOptions, rule string) {
	if _, err := certificate.Verify(options); err != nil {
		j.fault(file, rule, err)
	}
}

func pool(certificates ...*x509.Certificate) *x509.CertPool {
	made := x509.NewCertPool()
	for _, certificate := range certificates {
		made.AddCert(certificate)
	}
	return made
}

func (j *judge) readRoot() {
	j.root = j.certificate(filepath.Join(j.directory, "factory_ca.pem"))
	j.rootKey = j.key(filepath.Join(j.directory, "factory_ca.key"), j.root)
	if j.root == nil {
		return
	}
	if len(j.root.SubjectKeyId) == 0 {
		j.fault("factory_ca.pem", "key-identifier", errors.New("there is none"))
	}
	any := []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	j.verify("factory_ca.pem", j.root, x509.VerifyOptions{Roots: pool(j.root), KeyUsages: any}, "chain")
}

func (j *judge) readDeviceCas() {
	paths, _ := filepath.Glob(filepath.Join(j.directory, "*.pem"))
	for _, path := range paths {
		if name := strings.TrimSuffix(path, ".pem"); filepath.Base(name) != "factory_ca" {
			ca := j.readDeviceCa(path)
			j.key(name+".key", ca)
		}
	}
	online := filepath.Join(j.directory, "online-crt")
	if _, err := os.Stat(online); err == nil {
		j.readDeviceCa(online)
	}
}

func (j *judge) readDeviceCa(path string) *x509.Certificate {
	file := filepath.Base(path)
	j.DeviceCas = append(j.DeviceCas, strings.TrimSuffix(file, ".pem"))
	ca := j.certificate(path)
	if ca == nil {
		return nil
	}
	clients := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	j.verify(file, ca, x509.VerifyOptions{Roots: pool(j.root), KeyUsages: clients}, "chain")
	if !ca.IsCA || ca.KeyUsage&x509.KeyUsageCertSign == 0 {
		j.fault(file, "ca", errors.New("it may not sign certificates"))
	}
	j.revoke(file, ca.SerialNumber)
	return ca
}

// The list by which fioctl disables or revokes a device CA.
func (j *judge) revoke(file string, serial *big.Int) {
	if j.rootKey == nil {
		return
	}
	issuer := *j.root
	issuer.KeyUsage |= x509.KeyUsageCRLSign // as fioctl: roots of before November 2023 lack it
	now := time.Now()
	entry := x509.RevocationListEntry{SerialNumber: serial, RevocationTime: now, ReasonCode: 9}
	list := x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(15 * time.Minute),
		RevokedCertificateEntries: []x509.RevocationListEntry{entry},
	}
	if _, err := x509.CreateRevocationList(rand.Reader, &list, &issuer, j.rootKey); err != nil {
		j.fault(file, "revocation", err)
	}
}

func (j *judge) readServer() {
	path := filepath.Join(j.directory, "tls-crt")
	if _, err := os.Stat(path); err != nil {
		return
	}
	server := j.certificate(path)
	if server == nil {
		return
	}
	j.Hosts = append(j.Hosts, server.DNSNames...)
	if len(server.DNSNames) == 0 {
		j.fault("tls-crt", "host", errors.New("it has no DNS name"))
	}
	for _, host := range server.DNSNames {
		j.verify("tls-crt", server, x509.VerifyOptions{Roots: pool(j.root), DNSName: host}, "chain")
	}
}

// The device CAs that the gateway trusts: ca-crt, or where there is none the CA of the directory's own.
func (j *judge) anchors() *x509.CertPool {
	text, err := os.ReadFile(filepath.Join(j.directory, "ca-crt"))
	if err != nil {
		text, _ = os.ReadFile(filepath.Join(j.directory, "local-ca.pem"))
	}
	anchors := x509.NewCertPool()
	anchors.AppendCertsFromPEM(text)
	return anchors
}

// A device's bundle: the leaf alone, with local-ca and with the gateway's bundle as the only anchors.
func (j *judge) readBundle(bundle string) {
	leaf := j.certificate(filepath.Join(bundle, "client.pem"))
	if leaf == nil {
		return
	}
	clients := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	local := x509.NewCertPool()
	text, _ := os.ReadFile(filepath.Join(j.directory, "local-ca.pem"))
	local.AppendCertsFromPEM(text)
	j.verify("client.pem", leaf, x509.VerifyOptions{Roots: local, KeyUsages: clients}, "chain")
	j.verify("client.pem", leaf, x509.VerifyOptions{Roots: j.anchors(), KeyUsages: clients}, "anchor")
	if _, err := tls.LoadX509KeyPair(filepath.Join(bundle, "client.pem"), filepath.Join(bundle, "pkey.pem")); err != nil {
		j.fault("pkey.pem", "pair", err)
	}
}
