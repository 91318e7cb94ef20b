package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Headers of Standard Webhooks.
const (
	headerID        = "webhook-id"
	headerTimestamp = "webhook-timestamp"
	headerSignature = "webhook-signature"
)

// Sign gives the signature header's value as Standard Webhooks has it: one
// signature for each key, the newest first.
func Sign(keys [][]byte, id string, at time.Time, body []byte) string {
	out := make([]string, len(keys))
	for i, key := range keys {
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%d.", id, at.Unix())
		mac.Write(body)
		out[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(out, " ")
}

// webhook posts a body that is the same on every attempt, signed anew.
func (c *client) webhook(ctx context.Context, to Sealed, n note, now time.Time) answer {
	keys := to.keys(now)
	if len(keys) == 0 {
		return answer{outcome: final, err: "the target's signing key cannot be used"}
	}
	body, contentType, fault := n.render(to.Spec)
	req, err := post(ctx, to.Spec.URL, contentType, body)
	if err != nil {
		return answer{outcome: final, err: err.Error()}
	}
	for name, value := range to.Spec.Headers {
		req.Header.Set(name, value.Reveal())
	}
	req.Header.Set(headerID, n.id)
	req.Header.Set(headerTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(headerSignature, Sign(keys, n.id, now, body))
	a, _ := c.do(req, body, now)
	if fault != "" {
		a.err = strings.Join(append([]string{fault}, nonEmpty(a.err)...), "; ")
	}
	return a
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}
