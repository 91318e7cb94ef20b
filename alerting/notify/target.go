// Package notify owns a notification's way from its row to its target: the
// targets and their secrets, the outbox, formats and channels, retries,
// signatures, and the guard that keeps messages out of the network the server
// stands in. It must not know how anything is measured, judged or grouped: what
// it sends is a row with a message in it.
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
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Identity and words of a target.
const (
	KindTarget    = "Target"
	secretPrefix  = "whsec_"
	secretBytes   = 32
	minMaxBytes   = 4 << 10
	maxMaxBytes   = 1 << 20
	defaultMaxLen = 64 << 10
	maxURL        = 2048
	masked        = "***"
)

// Channels: the types of a target.
const (
	TypeWebhook   = "webhook"
	TypeEmail     = "email"
	TypeSlack     = "slack"
	TypeTeams     = "teams"
	TypeDiscord   = "discord"
	TypePagerDuty = "pagerduty"
	TypeOpsgenie  = "opsgenie"
	TypeTelegram  = "telegram"
	TypePushover  = "pushover"
	TypeWeChat    = "wechat"
	TypeWeCom     = "wecom"
	TypeDingTalk  = "dingtalk"
	TypeFeishu    = "feishu"
)

// Formats of a webhook's body.
const (
	FormatV1           = "crowsnest/v1"
	FormatAlertmanager = "alertmanager/v4"
	FormatTencent      = "tencent/callback"
	FormatTemplate     = "template"
)

var (
	types   = []string{TypeWebhook, TypeEmail, TypeSlack, TypeTeams, TypeDiscord, TypePagerDuty, TypeOpsgenie, TypeTelegram, TypePushover, TypeWeChat, TypeWeCom, TypeDingTalk, TypeFeishu}
	formats = []string{FormatV1, FormatAlertmanager, FormatTencent, FormatTemplate}
	// evidences are what a message may carry beside the alerts.
	evidences = []string{"series", "events", "logs"}
)

// Target is a configured receiver with its envelope.
type Target struct {
	APIVersion string          `json:"apiVersion" enum:"crowsnest.dev/v1"`
	Kind       string          `json:"kind" enum:"Target"`
	Metadata   policy.Metadata `json:"metadata"`
	Spec       TargetSpec      `json:"spec"`
	Status     *TargetStatus   `json:"status,omitempty" write:"ignored" doc:"Set by the server; ignored on write."`
}

// TargetSpec says how a receiver is reached. What is secret in it is shown as
// *** and, written back like that, stays as it is.
type TargetSpec struct {
	Type     string            `json:"type" enum:"webhook,email,slack,teams,discord,pagerduty,opsgenie,telegram,pushover,wechat,wecom,dingtalk,feishu"`
	URL      string            `json:"url,omitempty" doc:"Where it is posted to; for pagerduty, opsgenie, telegram and wechat another address than the service's own. Often a secret itself, so that answers show only where it leads: https://host/***. Written back like that it stays as it is."`
	Format   string            `json:"format,omitempty" enum:"crowsnest/v1,alertmanager/v4,tencent/callback,template" doc:"Of a webhook's body. Left out: crowsnest/v1."`
	Template *BodyTemplate     `json:"template,omitempty" doc:"Of the body, for format template."`
	Headers  map[string]Secret `json:"headers,omitempty" doc:"Further headers of a webhook, as Authorization. Their values are shown as ***."`
	MaxBytes int               `json:"maxBytes,omitempty" doc:"Of a message. Left out: 65536."`

	Email     *Email     `json:"email,omitempty"`
	Slack     *Slack     `json:"slack,omitempty"`
	PagerDuty *PagerDuty `json:"pagerduty,omitempty"`
	Opsgenie  *Opsgenie  `json:"opsgenie,omitempty"`
	Telegram  *Telegram  `json:"telegram,omitempty"`
	Pushover  *Pushover  `json:"pushover,omitempty"`
	WeChat    *WeChat    `json:"wechat,omitempty"`
	DingTalk  *Signed    `json:"dingtalk,omitempty"`
	Feishu    *Signed    `json:"feishu,omitempty"`

	Evidence  []string   `json:"evidence,omitempty" doc:"Of series, events, logs: what messages carry beside the alerts. Left out: all of them for webhooks, series and events for the rest."`
	Calendar  *Calendar  `json:"calendar,omitempty" doc:"When the target may be told of something new. Left out: always."`
	Fallback  string     `json:"fallback,omitempty" doc:"Name of a target that is told too once this one failed three times in a row, or refused a message for good."`
	RateLimit *RateLimit `json:"rateLimit,omitempty" doc:"Left out: none."`
	Timezone  string     `json:"timezone,omitempty" doc:"IANA zone in which times are written in messages for people. Left out: UTC."`
	Heartbeat *Heartbeat `json:"heartbeat,omitempty" doc:"Tell this target at regular times that the server works."`
	SelfWatch bool       `json:"selfWatch,omitempty" doc:"Tell this target when the server itself is in trouble."`
}

// BodyTemplate is a body that a user wrote.
type BodyTemplate struct {
	Body        string `json:"body" doc:"A Go template on the crowsnest/v1 message, as {{ .incident.title }}. In application/json every value is escaped for use between quotes; {{ json .alerts }} writes a whole value."`
	ContentType string `json:"contentType,omitempty" doc:"Left out: application/json."`
}

// Email is a mailbox, reached by SMTP.
type Email struct {
	To       []string `json:"to"`
	From     string   `json:"from"`
	Host     string   `json:"host" doc:"Of the SMTP server."`
	Port     int      `json:"port,omitempty" doc:"Left out: 587, or 465 for tls: implicit."`
	Username string   `json:"username,omitempty"`
	Password Secret   `json:"password,omitempty"`
	TLS      string   `json:"tls,omitempty" enum:"starttls,implicit,none" doc:"Left out: starttls. none is refused together with a password."`
}

// Slack refines a Slack webhook, or replaces it by a bot's token.
type Slack struct {
	Channel string `json:"channel,omitempty" doc:"As #alerts; required with a token."`
	Token   Secret `json:"token,omitempty" doc:"Of a bot, xoxb-…; then url is left out."`
}

// PagerDuty is an Events API v2 integration.
type PagerDuty struct {
	RoutingKey Secret `json:"routingKey"`
}

// Opsgenie is an API integration.
type Opsgenie struct {
	APIKey Secret   `json:"apiKey"`
	Teams  []string `json:"teams,omitempty" doc:"Names of the teams that respond."`
}

// Telegram is a chat that a bot writes to.
type Telegram struct {
	BotToken Secret `json:"botToken"`
	ChatID   int64  `json:"chatId"`
	ThreadID int    `json:"threadId,omitempty"`
}

// Pushover is a user or group of an application.
type Pushover struct {
	UserKey Secret `json:"userKey"`
	Token   Secret `json:"token" doc:"Of the application."`
}

// WeChat is an application of a WeChat Work company; the group robot is type wecom.
type WeChat struct {
	CorpID    string `json:"corpId"`
	AgentID   string `json:"agentId"`
	APISecret Secret `json:"apiSecret"`
	ToUser    string `json:"toUser,omitempty" doc:"Ids, separated by |; @all for everyone."`
	ToParty   string `json:"toParty,omitempty"`
	ToTag     string `json:"toTag,omitempty"`
}

// Signed is a robot whose messages can carry a signature.
type Signed struct {
	Secret Secret `json:"secret,omitempty" doc:"Of the robot's signature check."`
}

// RateLimit bounds how many messages a target gets. What is over it waits.
type RateLimit struct {
	Count int             `json:"count" doc:"Messages …"`
	Per   policy.Duration `json:"per" doc:"… in this time, from 1s to 24h."`
}

// Heartbeat is told while evaluation works, so that its absence means trouble.
type Heartbeat struct {
	Every policy.Duration `json:"every" doc:"From 1m to 24h."`
}

// TargetStatus is what the server knows of a target.
type TargetStatus struct {
	Secret      string     `json:"secret,omitempty" doc:"The signing key of a webhook, whsec_…; shown once, at creation and at rotation."`
	SecretUntil *time.Time `json:"previousSecretUntil,omitempty" doc:"Until when the key before is also used for signing."`
	Pending     int        `json:"pending" doc:"Notifications that wait."`
	Dead        int        `json:"dead" doc:"Notifications that were given up in the last 90 days."`
	LastError   string     `json:"lastError,omitempty" doc:"Of the newest attempt, when it failed."`
	Circuit     string     `json:"circuit,omitempty" enum:"closed,open,half-open" doc:"open: it failed five times in a row and is only probed now."`
	CircuitTry  *time.Time `json:"circuitTryAt,omitempty" doc:"When an open circuit is probed next."`
}

// Sealed is what of a target is encrypted at rest.
type Sealed struct {
	URL           string      `json:"url,omitempty"` // of rows that were written before Spec was sealed
	Secret        Secret      `json:"secret"`
	Previous      Secret      `json:"previous,omitempty"`
	PreviousUntil time.Time   `json:"previous_until,omitzero"`
	Spec          *TargetSpec `json:"spec,omitempty"` // with its secrets
}

// keys gives the signing keys that are valid at a time, the newest first.
func (s Sealed) keys(now time.Time) [][]byte {
	out := [][]byte{s.Secret.key()}
	if s.Previous != "" && now.Before(s.PreviousUntil) {
		out = append(out, s.Previous.key())
	}
	return slices.DeleteFunc(out, func(k []byte) bool { return len(k) == 0 })
}

// Signs says whether what goes to such a target carries a signature by our own
// key; other services know none of it.
func (s *TargetSpec) Signs() bool { return s.Type == TypeWebhook }

// Rotate makes a new signing key; the one before signs too, until overlap has
// passed.
func (s Sealed) Rotate(now time.Time, overlap time.Duration) Sealed {
	s.Previous, s.PreviousUntil, s.Secret = s.Secret, now.Add(overlap), NewSecret()
	if overlap <= 0 {
		s.Previous, s.PreviousUntil = "", time.Time{}
	}
	return s
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
		return masked
	}
	return u.Scheme + "://" + u.Host + "/" + masked
}

// secretField is one secret of a spec.
type secretField struct {
	path string
	get  func() Secret
	set  func(Secret)
}

// secrets gives every secret that a spec holds, but its URL.
func (s *TargetSpec) secrets() []secretField {
	var out []secretField
	add := func(path string, p *Secret) {
		out = append(out, secretField{path, func() Secret { return *p }, func(v Secret) { *p = v }})
	}
	if s.Email != nil {
		add("email.password", &s.Email.Password)
	}
	if s.Slack != nil {
		add("slack.token", &s.Slack.Token)
	}
	if s.PagerDuty != nil {
		add("pagerduty.routingKey", &s.PagerDuty.RoutingKey)
	}
	if s.Opsgenie != nil {
		add("opsgenie.apiKey", &s.Opsgenie.APIKey)
	}
	if s.Telegram != nil {
		add("telegram.botToken", &s.Telegram.BotToken)
	}
	if s.Pushover != nil {
		add("pushover.userKey", &s.Pushover.UserKey)
		add("pushover.token", &s.Pushover.Token)
	}
	if s.WeChat != nil {
		add("wechat.apiSecret", &s.WeChat.APISecret)
	}
	if s.DingTalk != nil {
		add("dingtalk.secret", &s.DingTalk.Secret)
	}
	if s.Feishu != nil {
		add("feishu.secret", &s.Feishu.Secret)
	}
	for k := range s.Headers {
		out = append(out, secretField{"headers." + k, func() Secret { return s.Headers[k] }, func(v Secret) { s.Headers[k] = v }})
	}
	return out
}

// clone copies a spec with all that hangs on it.
func (s TargetSpec) clone() (out TargetSpec, err error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return out, err
	}
	err = json.Unmarshal(raw, &out)
	return out, err
}

// mask hides a spec's secrets.
func (s *TargetSpec) mask() {
	if s.URL != "" {
		s.URL = MaskURL(s.URL)
	}
	for _, f := range s.secrets() {
		if f.get() != "" {
			f.set(masked)
		}
	}
}

// unmask puts back what a user wrote as it was shown to him.
func (s *TargetSpec) unmask(stored *TargetSpec) {
	if stored == nil {
		return
	}
	if stored.URL != "" && s.URL == MaskURL(stored.URL) {
		s.URL = stored.URL
	}
	was := map[string]Secret{}
	for _, f := range stored.secrets() {
		was[f.path] = f.get()
	}
	for _, f := range s.secrets() {
		if v := was[f.path]; f.get() == masked && v != "" {
			f.set(v)
		}
	}
}

// ParseTarget reads and validates a target. What is wrong comes back all at
// once. What is masked is taken from stored, the spec that is replaced; nil for
// a new target.
func ParseTarget(document []byte, stored *TargetSpec, g *Guard) (*Target, error) {
	var t Target
	fields, err := policy.Decode(document, &t)
	if err != nil {
		return nil, fmt.Errorf("read target: %w", err)
	}
	v := &targetCheck{fields: fields, guard: g}
	if t.APIVersion != policy.APIVersion {
		v.add("apiVersion", fault.Say(fault.MustBe, policy.APIVersion), orNil(t.APIVersion))
	}
	if t.Kind != KindTarget {
		v.add("kind", fault.Say(fault.MustBe, KindTarget), orNil(t.Kind))
	}
	policy.ValidateMetadata(&v.fields, &t.Metadata)
	if t.Metadata.Project == "" {
		t.Metadata.Project = policy.DefaultProject
	}
	t.Spec.unmask(stored)
	v.spec(&t.Spec, t.Metadata.Name)
	if err := v.fields.Err(); err != nil {
		return nil, fmt.Errorf("target %q: %w", t.Metadata.Name, err)
	}
	return &t, nil
}

func checkURL(raw string, g *Guard) (wrong fault.Reason, ok bool) {
	if raw == "" {
		return fault.Say(fault.URLNeeded), false
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || len(raw) > maxURL || u.Host == "" || u.Hostname() == "":
		return fault.Say(fault.URLWrong), false
	case u.Scheme != "https" && u.Scheme != "http":
		return fault.Say(fault.URLScheme), false
	case u.User != nil:
		return fault.Say(fault.URLUser), false
	case strings.HasSuffix(u.Path, "/"+masked):
		return fault.Say(fault.MaskedURL), false
	}
	return checkHost(u.Hostname(), g)
}

// checkHost refuses forbidden addresses early. A name is checked when it is
// dialled, since it may lead elsewhere by then.
func checkHost(host string, g *Guard) (wrong fault.Reason, ok bool) {
	if ip, err := netip.ParseAddr(host); err == nil && g != nil {
		if err := g.Check(ip); err != nil {
			return fault.Say(fault.AddressRefused, err.Error()), false
		}
	}
	return fault.Reason{}, true
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// Seal gives the rows' parts of a target: the spec without secrets, and the
// encrypted rest.
func Seal(k *Keyring, id string, t *Target, secrets Sealed) (spec json.RawMessage, sealed []byte, err error) {
	open, err := t.Spec.clone()
	if err != nil {
		return nil, nil, fmt.Errorf("save target %q: %w", t.Metadata.Name, err)
	}
	open.mask()
	if spec, err = json.Marshal(open); err != nil {
		return nil, nil, fmt.Errorf("save target %q: %w", t.Metadata.Name, err)
	}
	secrets.URL, secrets.Spec = "", &t.Spec
	plain, err := json.Marshal(secrets)
	if err != nil {
		return nil, nil, fmt.Errorf("save target %q: %w", t.Metadata.Name, err)
	}
	return spec, k.Seal(plain, id), nil
}

// Unseal reads what Seal encrypted; its Spec is never nil.
func Unseal(k *Keyring, r meta.Resource) (Sealed, error) {
	plain, err := k.Open(r.Sealed, r.ID)
	if err != nil {
		return Sealed{}, fmt.Errorf("read the secrets of target %q: %w", r.Name, err)
	}
	var s Sealed
	if err := json.Unmarshal(plain, &s); err != nil {
		return Sealed{}, fmt.Errorf("read the secrets of target %q: malformed", r.Name) // the text may hold them
	}
	if s.Spec == nil {
		s.Spec = &TargetSpec{}
		if err := json.Unmarshal(r.Spec, s.Spec); err != nil {
			return Sealed{}, fmt.Errorf("read target %q: %w", r.Name, err)
		}
		s.Spec.URL = s.URL
	}
	return s, nil
}

// FromRow gives a target as the API shows it: its secrets masked.
func FromRow(r meta.Resource) (*Target, error) {
	t := &Target{APIVersion: policy.APIVersion, Kind: KindTarget, Metadata: policy.MetadataOf(r)}
	if err := json.Unmarshal(r.Spec, &t.Spec); err != nil {
		return nil, fmt.Errorf("read target %q: %w", r.Name, err)
	}
	return t, nil
}
