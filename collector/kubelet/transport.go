package kubelet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// MaxBodyBytes bounds what a kubelet may answer.
const MaxBodyBytes = 64 << 20

// Fetcher writes what a node's kubelet answers at a path, at most MaxBodyBytes,
// and tells the time that the answer carries, zero when it carries none. It may
// be called concurrently.
type Fetcher interface {
	Fetch(ctx context.Context, node *object.Node, path string, into io.Writer) (date time.Time, err error)
}

// Proxy reaches kubelets through the API server.
type Proxy struct {
	// URL gives the address of a path of a node's kubelet, through the API server.
	URL    func(node, path string) *url.URL
	Client *http.Client // with the credential for the API server
}

var _ Fetcher = (*Proxy)(nil)

// Fetch implements Fetcher.
func (p *Proxy) Fetch(ctx context.Context, node *object.Node, path string, into io.Writer) (time.Time, error) {
	date, err := get(ctx, p.Client, p.URL(node.Name, path), "", into)
	if status := (*statusError)(nil); errors.As(err, &status) && status.code == http.StatusForbidden {
		return date, fmt.Errorf("%w: needs get on nodes/proxy", err)
	}
	return date, err
}

// DirectOptions say how kubelets are reached directly.
type DirectOptions struct {
	TokenFile string // of the service account; read again every minute
	Token     string // where there is no file
	CAFile    string // that signed the kubelets' certificates
	CAData    []byte // where there is no file
	// ClientCert is used beside the token, or instead of it.
	ClientCert tls.Certificate
	// InsecureSkipVerify leaves the kubelet's certificate unchecked: whoever
	// can take its address then gets the token.
	InsecureSkipVerify bool
	Port               int // default what the node says, else 10250
	Now                func() time.Time
}

// Direct reaches kubelets at their nodes' addresses.
type Direct struct {
	client *http.Client
	port   int
	now    func() time.Time
	file   string

	mu    sync.Mutex
	token string
	read  time.Time
}

var _ Fetcher = (*Direct)(nil)

// NewDirect reads the CA certificates; it does not connect.
func NewDirect(o DirectOptions) (*Direct, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.InsecureSkipVerify}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read kubelets' CA: %w", err)
		}
		o.CAData = pem
	}
	if len(o.CAData) > 0 {
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(o.CAData) {
			return nil, errors.New("read kubelets' CA: no PEM certificate in it")
		}
	}
	if len(o.ClientCert.Certificate) > 0 {
		t.Certificates = []tls.Certificate{o.ClientCert}
	}
	return &Direct{
		client: &http.Client{Transport: &http.Transport{
			DialContext:     (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
			TLSClientConfig: t, TLSHandshakeTimeout: 3 * time.Second,
			MaxIdleConnsPerHost: 1, IdleConnTimeout: 3 * time.Minute, ForceAttemptHTTP2: true,
			WriteBufferSize: 4 << 10, ReadBufferSize: 32 << 10,
			// The kubelet is on the same machine: compressing costs both more than
			// it saves.
			DisableCompression: true,
		}},
		port: o.Port, now: o.Now, file: o.TokenFile, token: o.Token,
	}, nil
}

// Fetch implements Fetcher.
func (d *Direct) Fetch(ctx context.Context, node *object.Node, path string, into io.Writer) (time.Time, error) {
	if node.InternalIP == "" {
		return time.Time{}, fmt.Errorf("node %s: %w: it has no InternalIP", node.Name, fault.ErrUnavailable)
	}
	token, err := d.credential()
	if err != nil {
		return time.Time{}, err
	}
	port := d.port
	if port == 0 {
		port = int(node.KubeletPort)
	}
	if port == 0 {
		port = 10250
	}
	u := &url.URL{Scheme: "https", Host: net.JoinHostPort(node.InternalIP, strconv.Itoa(port)), Path: path}
	date, err := get(ctx, d.client, u, token, into)
	var status *statusError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	switch {
	case errors.As(err, &status) && (status.code == http.StatusForbidden || status.code == http.StatusUnauthorized):
		right := "nodes/metrics"
		if strings.HasPrefix(path, "/stats") {
			right = "nodes/stats"
		}
		return date, fmt.Errorf("%w: needs get on %s, and a kubelet that accepts service account tokens", err, right)
	case errors.As(err, &authority), errors.As(err, &host):
		return date, fmt.Errorf("%w: the kubelet's certificate is not signed by the cluster's CA for this address; "+
			"name its CA with --kubelet-ca-file, or do without the check with --kubelet-insecure-skip-verify", err)
	}
	return date, err
}

// credential reads the token anew every minute, since tokens are short-lived.
func (d *Direct) credential() (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file == "" || (d.token != "" && d.now().Sub(d.read) < time.Minute) {
		return d.token, nil
	}
	raw, err := os.ReadFile(d.file)
	if err != nil && d.token == "" {
		return "", fmt.Errorf("read service account token: %w", err)
	}
	if err == nil {
		d.token, d.read = strings.TrimSpace(string(raw)), d.now()
	}
	return d.token, nil
}

// statusError is an answer that is not 200.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string {
	return strings.TrimSuffix(fmt.Sprintf("kubelet answered %d: %s", e.code, e.text), ": ")
}

func (e *statusError) Unwrap() error {
	switch e.code {
	case http.StatusUnauthorized:
		return fault.ErrUnauthenticated
	case http.StatusForbidden:
		return fault.ErrForbidden
	case http.StatusNotFound:
		return fault.ErrNotFound
	}
	return fault.ErrUnavailable
}

func get(ctx context.Context, c *http.Client, u *url.URL, token string, into io.Writer) (time.Time, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return time.Time{}, err
	}
	req.Header.Set("User-Agent", "crowsnest-collector")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.Do(req)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %w", fault.ErrUnavailable, err)
	}
	defer resp.Body.Close()
	date, _ := http.ParseTime(resp.Header.Get("Date"))
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		return date, &statusError{resp.StatusCode, strings.TrimSpace(string(text))}
	}
	n, err := io.Copy(into, io.LimitReader(resp.Body, MaxBodyBytes+1))
	switch {
	case err != nil:
		return date, fmt.Errorf("%w: read answer: %w", fault.ErrUnavailable, err)
	case n > MaxBodyBytes:
		return date, fmt.Errorf("%w: more than %d bytes", fault.ErrTooLarge, MaxBodyBytes)
	}
	return date, nil
}

// endpointPort is where pods of elastic platforms show their own containers.
const endpointPort = "9100"

// Endpoints asks pods themselves. It has no credential.
type Endpoints struct{ client *http.Client }

// NewEndpoints makes it; nothing is asked yet. There are many pods, each asked once
// an interval, so no connection is kept.
func NewEndpoints() *Endpoints {
	return &Endpoints{&http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Ask writes what a pod shows of itself at port 9100.
func (e *Endpoints) Ask(ctx context.Context, pod *object.Pod, into io.Writer) error {
	u := &url.URL{Scheme: "http", Host: net.JoinHostPort(pod.IP, endpointPort), Path: "/metrics"}
	_, err := get(ctx, e.client, u, "", into)
	var status *statusError
	if errors.As(err, &status) {
		return fmt.Errorf("pod %s/%s answered %d", pod.Namespace, pod.Name, status.code)
	}
	return err
}
