package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
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
