package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/crowsnest-dev/crowsnest/api/access"
)

// certificate makes one for 127.0.0.1 that signs itself.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, typ string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("tls.crt", "CERTIFICATE", der), write("tls.key", "EC PRIVATE KEY", raw)
}

func TestTLSAndTokensOnEveryListener(t *testing.T) {
	cert, key := certificate(t)
	token := access.NewToken(access.APIToken)
	tokenFile := filepath.Join(t.TempDir(), "api.token")
	if err := os.WriteFile(tokenFile, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startServer(t, t.TempDir(), func(s *settings) {
		s.listen, s.adminListen, s.certFile, s.keyFile, s.apiTokenFile = "0.0.0.0:0", "127.0.0.1:0", cert, key, tokenFile
	})
	if !strings.HasPrefix(r.URL(), "https://127.0.0.1:") {
		t.Errorf("it says to be at %s", r.URL())
	}
	out, _, err := crowsnest(t.Context(), noEnv, "", "query", "vector(5)", "--server", r.URL(), "--ca-file", cert, "--token-file", tokenFile)
	if err != nil || !strings.Contains(out, "5") {
		t.Errorf("by TLS and token: %q, %v", out, err)
	}
	if _, _, err := crowsnest(t.Context(), noEnv, "", "query", "vector(5)", "--server", r.URL(), "--ca-file", cert); err == nil || !strings.Contains(err.Error(), "--token-file") {
		t.Errorf("without a token: %v", err)
	}
	if _, _, err := crowsnest(t.Context(), noEnv, "", "query", "vector(5)", "--server", r.URL(), "--token-file", tokenFile); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the CA: %v", err)
	}
	if res, err := r.client.Get("http://" + r.listener.net.Addr().String() + "/healthz"); err == nil {
		_ = res.Body.Close()
		if res.StatusCode == http.StatusOK {
			t.Error("plain HTTP is answered")
		}
	}
	res, err := r.client.Get("http://" + r.admin.net.Addr().String() + "/debug/pprof/")
	if err == nil {
		_ = res.Body.Close()
		if res.StatusCode == http.StatusOK {
			t.Error("profiles go without TLS")
		}
	}
}

func TestProfilesAreOnTheAdminListenerOnly(t *testing.T) {
	r := startServer(t, t.TempDir(), func(s *settings) { s.adminListen = "127.0.0.1:0" })
	res, err := r.client.Get(r.admin.url() + "/debug/pprof/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("on the admin listener: %d", res.StatusCode)
	}
	req, err := http.NewRequest("GET", r.admin.url()+"/debug/pprof/cmdline", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example"
	if res, err = r.client.Do(req); err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("under a foreign name: %d", res.StatusCode)
	}
	if code, body := r.send("GET", "/debug/pprof/cmdline", "", "", nil); code != http.StatusNotFound {
		t.Errorf("on the other: %d %s", code, body)
	}
}

func TestOwnMetricsAreNamedAsTheyShould(t *testing.T) {
	r := startServer(t, t.TempDir(), nil)
	problems, err := promlint.New(strings.NewReader(r.get("/metrics"))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "crowsnest_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}
