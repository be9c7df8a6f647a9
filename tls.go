package relay

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// CheckTLS says whether relay can use what an endpoint has of TLS: nil if so,
// else every fault, each beginning with the name of the setting that it is about:
// ca, certificate or key. No settings have no fault. Whether a certificate has
// expired is not looked at: that comes by itself, and is then the endpoint's to
// say. The error repeats nothing of the key.
func CheckTLS(t *TLS) error {
	if t == nil {
		return nil
	}
	var ca, certificate error
	if t.Authorities != nil {
		ca = checkCertificates("ca", t.Authorities)
	}
	if t.Certificate != nil {
		certificate = checkCertificates("certificate", t.Certificate)
	}
	return errors.Join(ca, certificate, checkKey(t, certificate == nil))
}

// checkCertificates looks at one certificate or several. What stands between them
// is a comment.
func checkCertificates(setting string, text []byte) error {
	blocks, err := readPEM(setting, text)
	if err != nil {
		return err
	}
	for i, block := range blocks {
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return fmt.Errorf("%s: holds a private key, which belongs into the setting key alone: it is kept secret there", setting)
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("%s: part %d is no certificate", setting, i+1)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("%s: part %d is a certificate that cannot be read", setting, i+1)
		}
	}
	return nil
}

// checkKey looks at the key, and whether it belongs to the certificate, if that
// can be read.
func checkKey(t *TLS, readable bool) error {
	switch {
	case t.Certificate == nil && t.Key == "":
		return nil
	case t.Certificate == nil:
		return errors.New("certificate: is missing, and key is of no use without it")
	case t.Key == "":
		return errors.New("key: is missing, and certificate is of no use without it")
	}
	blocks, err := readPEM("key", []byte(t.Key))
	if err != nil {
		return err
	}
	for _, block := range blocks {
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return errors.New("key: is encrypted, and relay has no passphrase for it")
		}
	}
	if !readable {
		return nil
	}
	switch _, err := tls.X509KeyPair(t.Certificate, []byte(t.Key)); {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "does not match"):
		return errors.New("key: is not the one that belongs to the first certificate of the chain")
	default: // its text may hold a part of what was read
		return errors.New("key: holds no private key that relay can read")
	}
}

// readPEM returns the parts of a text, of which there is one at least. One that
// is broken is a fault: encoding/pem passes over it without a word.
func readPEM(setting string, text []byte) (blocks []*pem.Block, err error) {
	if len(text) > MaxPEM {
		return nil, fmt.Errorf("%s: %d bytes, more than %d", setting, len(text), MaxPEM)
	}
	begun := bytes.Count(text, []byte("-----BEGIN "))
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		blocks = append(blocks, block)
	}
	switch {
	case begun == 0:
		return nil, fmt.Errorf("%s: is not PEM, which begins with -----BEGIN", setting)
	case len(blocks) < begun:
		return nil, fmt.Errorf("%s: %d of its %d parts cannot be read as PEM", setting, begun-len(blocks), begun)
	}
	return blocks, nil
}
