package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// A root and a device CA whose key identifiers are Go's (of SHA-256 since 1.25) and whose serials fill 160 bits.
func makePki(directory, factory string) error {
	now := time.Now()
	root := x509.Certificate{
		SerialNumber: longSerial(), Subject: name("Factory-CA", factory),
		NotBefore: now, NotAfter: now.AddDate(20, 0, 0),
		BasicConstraintsValid: true, IsCA: true,
		KeyUsage:    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	rootKey, err := pair(directory, "factory_ca", &root, nil, nil)
	if err != nil {
		return err
	}
	ca := x509.Certificate{
		SerialNumber: longSerial(), Subject: name("fio-5e0", factory),
		NotBefore: now, NotAfter: now.AddDate(10, 0, 0),
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	_, err = pair(directory, "local-ca", &ca, &root, rootKey)
	return err
}

func longSerial() *big.Int {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
	if err != nil {
		panic(err)
	}
	return serial.SetBit(serial, 159, 1)
}

func name(commonName, unit string) pkix.Name {
	return pkix.Name{CommonName: commonName, OrganizationalUnit: []string{unit}}
}

// NAME.key and NAME.pem; signed by itself if there is no issuer. The template becomes the certificate as it was made.
func pair(directory, name string, made, issuer *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if issuer == nil {
		issuer, signer = made, key
	}
	certificate, err := x509.CreateCertificate(rand.Reader, made, issuer, &key.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := write(filepath.Join(directory, name+".key"), "EC PRIVATE KEY", secret); err != nil {
		return nil, err
	}
	if err := write(filepath.Join(directory, name+".pem"), "CERTIFICATE", certificate); err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(certificate)
	if err != nil {
		return nil, err
	}
	*made = *parsed
	return key, nil
}

func write(path, label string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}), 0o400)
}
