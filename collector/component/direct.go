package component

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

// DirectOptions say how components are reached at addresses of their own.
type DirectOptions struct {
	CAFile            string // that signed their certificates; without it, these are not checked
	CertFile, KeyFile string // client certificate
	TokenFile         string // given only to those whose certificate is checked; read for every request
}

// Direct makes the client for components at addresses of their own.
func Direct(o DirectOptions) (*http.Client, error) {
	// Schedulers sign their certificates themselves, so without a CA there is
	// nothing to check; then nothing secret is sent either.
	t := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.CAFile == ""}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("--component-ca-file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("--component-ca-file: no PEM certificate in it")
		}
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, errors.New("--component-cert-file and --component-key-file belong together")
	}
	if o.CertFile != "" {
		// Read for every handshake: certificates are renewed while this runs.
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
			return &cert, err
		}
	}
	transport := &http.Transport{TLSClientConfig: t, TLSHandshakeTimeout: 3 * time.Second, IdleConnTimeout: 2 * time.Minute, MaxIdleConnsPerHost: 2}
	c := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if o.CAFile != "" && o.TokenFile != "" {
		c.Transport = &withToken{next: transport, file: o.TokenFile}
	}
	return c, nil
}

// withToken adds the service account's token to requests over TLS.
type withToken struct {
	next http.RoundTripper
	file string
}

// RoundTrip implements http.RoundTripper.
func (t *withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	if raw, err := os.ReadFile(t.file); err == nil && r.URL.Scheme == "https" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(raw)))
	}
	return t.next.RoundTrip(r)
}
