// Package notify owns a notification's way from its row to its target: the
// targets and their secrets, the outbox, retries, signatures, and the guard that
// keeps webhooks out of the network the server stands in. It must not know
// policies, incidents or how anything is measured.
package notify

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Identity and words of a target.
const (
	KindTarget    = "Target"
	TypeWebhook   = "webhook"
	FormatV1      = "crowsnest/v1"
	secretPrefix  = "whsec_"
	secretBytes   = 32
	minMaxBytes   = 4 << 10
	maxMaxBytes   = 1 << 20
	defaultMaxLen = 64 << 10
	maxURL        = 2048
)

var (
	laterTypes   = []string{"email", "slack", "teams", "pagerduty", "opsgenie", "telegram", "wecom", "dingtalk", "feishu"}
	laterFormats = []string{"alertmanager/v4", "tencent/callback", "template"}
)

// Target is a configured receiver with its envelope.
type Target struct {
	APIVersion string          `json:"apiVersion" enum:"crowsnest.dev/v1"`
	Kind       string          `json:"kind" enum:"Target"`
	Metadata   policy.Metadata `json:"metadata"`
	Spec       TargetSpec      `json:"spec"`
	Status     *TargetStatus   `json:"status,omitempty" write:"ignored" doc:"Set by the server; ignored on write."`
}

// TargetSpec says how a receiver is reached.
type TargetSpec struct {
	Type     string `json:"type" enum:"webhook"`
	URL      string `json:"url" doc:"Often a secret itself, so that answers show only where it leads: https://host/***. Written back like that it stays as it is."`
	Format   string `json:"format,omitempty" enum:"crowsnest/v1" doc:"Left out: crowsnest/v1."`
	MaxBytes int    `json:"maxBytes,omitempty" doc:"Of a message. Left out: 65536."`

	Evidence  []string  `json:"evidence,omitempty" doc:"Not supported yet."`
	Calendar  *struct{} `json:"calendar,omitempty" doc:"Not supported yet."`
	Fallback  string    `json:"fallback,omitempty" doc:"Not supported yet."`
	RateLimit *struct{} `json:"rateLimit,omitempty" doc:"Not supported yet."`
	Timezone  string    `json:"timezone,omitempty" doc:"Not supported yet."`
}

// TargetStatus is what the server knows of a target.
type TargetStatus struct {
	Secret    string `json:"secret,omitempty" doc:"The signing key, whsec_…; shown once, at creation."`
	Pending   int    `json:"pending" doc:"Notifications that wait."`
	LastError string `json:"lastError,omitempty" doc:"Of the newest attempt, when it failed."`
}

// Sealed is what of a target is encrypted at rest.
type Sealed struct {
	URL    string `json:"url"`
	Secret Secret `json:"secret"`
}

// Secret prints as <secret>; Reveal gives it.
type Secret string

func (Secret) String() string   { return "<secret>" }
func (Secret) GoString() string { return "<secret>" }
func (s Secret) Reveal() string { return string(s) }
func (s Secret) key() []byte    { return decodeKey(string(s)) }
func decodeKey(secret string) []byte {
	b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, secretPrefix))
	if err != nil {
		return nil
	}
	return b
}

// NewSecret makes a signing key of 32 random bytes.
func NewSecret() Secret {
	b := make([]byte, secretBytes)
	_, _ = rand.Read(b) // never fails: it ends the program instead
	return Secret(secretPrefix + base64.StdEncoding.EncodeToString(b))
}

// MaskURL keeps where a URL leads and hides what could be a credential.
func MaskURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return "***"
	}
	return u.Scheme + "://" + u.Host + "/***"
}

// ParseTarget reads and validates a target. What is wrong comes back all at
// once. A masked URL is taken where stored, the URL that is masked by it, is
// not empty.
func ParseTarget(document []byte, stored string, g *Guard) (*Target, error) {
	var t Target
	fields, err := policy.Decode(document, &t)
	if err != nil {
		return nil, fmt.Errorf("read target: %w", err)
	}
	add := func(path, reason string, value any) {
		if !slices.ContainsFunc(fields, func(f fault.Field) bool { return f.Path == path }) {
			fields.Add(path, reason, value)
		}
	}
	if t.APIVersion != policy.APIVersion {
		add("apiVersion", "must be "+policy.APIVersion, orNil(t.APIVersion))
	}
	if t.Kind != KindTarget {
		add("kind", "must be "+KindTarget, orNil(t.Kind))
	}
	policy.ValidateMetadata(&fields, &t.Metadata)
	if t.Metadata.Project == "" {
		t.Metadata.Project = policy.DefaultProject
	}
	s := &t.Spec
	switch {
	case slices.Contains(laterTypes, s.Type):
		add("spec.type", "not supported yet; allowed is "+TypeWebhook, s.Type)
	case s.Type != TypeWebhook:
		add("spec.type", "must be "+TypeWebhook, orNil(s.Type))
	}
	if s.Format == "" {
		s.Format = FormatV1
	}
	switch {
	case slices.Contains(laterFormats, s.Format):
		add("spec.format", "not supported yet; allowed is "+FormatV1, s.Format)
	case s.Format != FormatV1:
		add("spec.format", "must be "+FormatV1, s.Format)
	}
	if s.MaxBytes == 0 {
		s.MaxBytes = defaultMaxLen
	}
	if s.MaxBytes < minMaxBytes || s.MaxBytes > maxMaxBytes {
		add("spec.maxBytes", fmt.Sprintf("must be from %d to %d", minMaxBytes, maxMaxBytes), s.MaxBytes)
	}
	for path, given := range map[string]bool{
		"spec.evidence": s.Evidence != nil, "spec.calendar": s.Calendar != nil, "spec.fallback": s.Fallback != "",
		"spec.rateLimit": s.RateLimit != nil, "spec.timezone": s.Timezone != "",
	} {
		if given {
			add(path, "not supported yet", nil)
		}
	}
	if stored != "" && s.URL == MaskURL(stored) {
		s.URL = stored
	} else if reason := checkURL(s.URL, g); reason != "" {
		// The value is left out: a mistyped URL still has its credential in it.
		add("spec.url", reason, nil)
	}
	if err := fields.Err(); err != nil {
		return nil, fmt.Errorf("target %q: %w", t.Metadata.Name, err)
	}
	return &t, nil
}

func checkURL(raw string, g *Guard) string {
	if raw == "" {
		return "is required: the address that notifications are posted to, as https://example.com/hook"
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || len(raw) > maxURL || u.Host == "" || u.Hostname() == "":
		return "must be an address as https://example.com/hook"
	case u.Scheme != "https" && u.Scheme != "http":
		return "must begin with https:// or http://"
	case u.User != nil:
		return "must not carry a user name or password; messages are signed with the target's key"
	case strings.HasSuffix(u.Path, "/***"):
		return "is masked; give the whole address"
	}
	// A name is checked when it is dialled, since it may lead elsewhere by then.
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && g != nil {
		if err := g.Check(ip); err != nil {
			return err.Error()
		}
	}
	return ""
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// Seal gives the rows' parts of a target: the spec without secrets, and the
// encrypted rest.
func Seal(k *Keyring, id string, t *Target, secret Secret) (spec json.RawMessage, sealed []byte, err error) {
	open := t.Spec
	open.URL = MaskURL(t.Spec.URL)
	if spec, err = json.Marshal(open); err != nil {
		return nil, nil, fmt.Errorf("save target %q: %w", t.Metadata.Name, err)
	}
	plain, err := json.Marshal(Sealed{URL: t.Spec.URL, Secret: secret})
	if err != nil {
		return nil, nil, fmt.Errorf("save target %q: %w", t.Metadata.Name, err)
	}
	return spec, k.Seal(plain, id), nil
}

// Unseal reads what Seal encrypted.
func Unseal(k *Keyring, r meta.Resource) (Sealed, error) {
	plain, err := k.Open(r.Sealed, r.ID)
	if err != nil {
		return Sealed{}, fmt.Errorf("read the secrets of target %q: %w", r.Name, err)
	}
	var s Sealed
	if err := json.Unmarshal(plain, &s); err != nil {
		return Sealed{}, fmt.Errorf("read the secrets of target %q: malformed", r.Name) // the text may hold them
	}
	return s, nil
}

// FromRow gives a target as the API shows it: its URL masked.
func FromRow(r meta.Resource) (*Target, error) {
	t := &Target{APIVersion: policy.APIVersion, Kind: KindTarget, Metadata: policy.MetadataOf(r)}
	if err := json.Unmarshal(r.Spec, &t.Spec); err != nil {
		return nil, fmt.Errorf("read target %q: %w", r.Name, err)
	}
	return t, nil
}
