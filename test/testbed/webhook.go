package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Delivery is one request that a webhook received.
type Delivery struct {
	At        time.Time
	ID        string // webhook-id
	Header    http.Header
	Body      []byte
	Type      string // incident.firing, incident.resolved, …
	Policies  []string
	SignedErr error // of the Standard Webhooks verifier
	Parsed    Notification
}

// Notification is the part of the crowsnest/v1 shape that is looked at.
type Notification struct {
	Version  string `json:"version"`
	ID       string `json:"id"`
	Type     string `json:"type"`
	Sequence int    `json:"sequence"`
	Incident struct {
		ID       string `json:"id"`
		Title    string `json:"title"`
		State    string `json:"state"`
		Severity string `json:"severity"`
		Cause    string `json:"cause"`
	} `json:"incident"`
	Alerts []struct {
		ID        string    `json:"id"`
		State     string    `json:"state"`
		StartedAt time.Time `json:"started_at"`
		Cause     string    `json:"cause"`
		Policy    struct {
			Name string `json:"name"`
		} `json:"policy"`
		Object     map[string]string `json:"object"`
		Conditions []struct {
			Metric string  `json:"metric"`
			Value  float64 `json:"value"`
			Holds  bool    `json:"holds"`
		} `json:"conditions"`
	} `json:"alerts"`
}

// Webhook is a webhook target in this process that keeps what it receives.
type Webhook struct {
	URL    string
	server *http.Server

	mu         sync.Mutex
	verifier   *standardwebhooks.Webhook
	deliveries []Delivery
}

// NewWebhook listens on a free port of Address.
func NewWebhook() (*Webhook, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(Address, "0"))
	if err != nil {
		return nil, err
	}
	w := &Webhook{URL: "http://" + listener.Addr().String() + "/hook"}
	w.server = &http.Server{Handler: http.HandlerFunc(w.receive), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = w.server.Serve(listener) }()
	return w, nil
}

// Close ends the target.
func (w *Webhook) Close() error { return w.server.Close() }

// Trust sets the secret that deliveries must be signed with.
func (w *Webhook) Trust(secret string) error {
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return fmt.Errorf("webhook secret: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.verifier = verifier
	return nil
}

func (w *Webhook) receive(rw http.ResponseWriter, r *http.Request) {
	now := time.Now()
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	d := Delivery{At: now, ID: r.Header.Get("webhook-id"), Header: r.Header.Clone(), Body: body}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.verifier == nil {
		d.SignedErr = errors.New("no secret is known yet")
	} else {
		d.SignedErr = w.verifier.Verify(body, r.Header)
	}
	if err := json.Unmarshal(body, &d.Parsed); err != nil {
		d.SignedErr = errors.Join(d.SignedErr, err)
	}
	d.Type = d.Parsed.Type
	for _, alert := range d.Parsed.Alerts {
		d.Policies = append(d.Policies, alert.Policy.Name)
	}
	w.deliveries = append(w.deliveries, d)
	rw.WriteHeader(http.StatusNoContent)
}

// Deliveries gives what was received about a policy, of the type; an empty type
// means all.
func (w *Webhook) Deliveries(policy, kind string) []Delivery {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Delivery
	for _, d := range w.deliveries {
		if kind != "" && d.Type != kind {
			continue
		}
		for _, name := range d.Policies {
			if name == policy {
				out = append(out, d)
				break
			}
		}
	}
	return out
}

// Wait waits for a delivery of the type about the policy.
func (w *Webhook) Wait(ctx context.Context, policy, kind string, timeout time.Duration) (Delivery, error) {
	var found Delivery
	err := Await(ctx, timeout, 50*time.Millisecond, func(context.Context) error {
		if got := w.Deliveries(policy, kind); len(got) > 0 {
			found = got[0]
			return nil
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		return fmt.Errorf("no %s about policy %s arrived (%d other deliveries did)", kind, policy, len(w.deliveries))
	})
	return found, err
}
