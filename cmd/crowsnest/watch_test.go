package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/crowsnest-dev/crowsnest/api"
)

func TestARunningServerSendsHeartbeats(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits 15 s, for the server's next look")
	}
	var n atomic.Int64
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if strings.Contains(string(b), `"heartbeat"`) && r.Header.Get("webhook-signature") != "" {
			n.Add(1)
		}
	}))
	defer hook.Close()
	s := startServer(t, t.TempDir(), func(s *settings) { _ = s.webhookCIDRs.Set("127.0.0.0/8") })
	if code, body := s.send("POST", "/apis/crowsnest.dev/v1/targets", "", "application/yaml", []byte("apiVersion: crowsnest.dev/v1\nkind: Target\nmetadata: {name: dead-man}\nspec: {type: webhook, url: \""+hook.URL+"\", heartbeat: {every: 1m}, selfWatch: true}\n")); code != 201 {
		t.Fatal(code, body)
	}
	eventually(t, "heartbeat", func() bool { return n.Load() > 0 })
}

// The test button sends what incidents would: signed, to the target alone, kept
// as an attempt; a target that does not answer well says so there.
func TestTheTestButtonReachesTheReceiver(t *testing.T) {
	var status atomic.Int64
	status.Store(http.StatusOK)
	got := make(chan string, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if r.Header.Get("webhook-signature") == "" || r.Header.Get("webhook-id") == "" {
			b = []byte("not signed")
		}
		got <- string(b)
		w.WriteHeader(int(status.Load()))
	}))
	defer hook.Close()
	s := startServer(t, t.TempDir(), func(s *settings) { _ = s.webhookCIDRs.Set("127.0.0.0/8") })
	if code, body := s.send("POST", api.Prefix+"/targets", "", "application/yaml", []byte("apiVersion: crowsnest.dev/v1\nkind: Target\nmetadata: {name: chat}\nspec: {type: webhook, url: \""+hook.URL+"\"}\n")); code != 201 {
		t.Fatal(code, body)
	}
	press := func() {
		t.Helper()
		if code, body := s.send("POST", api.Prefix+"/targets/chat/test", "", "application/json", nil); code != 202 {
			t.Fatal(code, body)
		}
		if body := <-got; !strings.Contains(body, `"type":"test"`) || strings.Contains(body, "not signed") {
			t.Errorf("got %s", body)
		}
	}
	press()
	eventually(t, "delivery", func() bool { return strings.Contains(s.get(api.Prefix+"/deliveries"), `"state":"delivered"`) })
	status.Store(http.StatusGone)
	press()
	eventually(t, "a refusal", func() bool { return strings.Contains(s.get(api.Prefix+"/deliveries"), "410 Gone") })
}
