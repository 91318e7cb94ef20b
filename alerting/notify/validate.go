package notify

import (
	"fmt"
	"net/http"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

const (
	maxHeaders    = 20
	maxHeaderLen  = 4 << 10
	maxRecipients = 50
	maxSecret     = 1 << 10
)

var (
	pagerDutyKey = regexp.MustCompile(`^[A-Za-z0-9]{32}$`)
	telegramBot  = regexp.MustCompile(`^[0-9]{3,20}:[A-Za-z0-9_-]{20,100}$`)
	pushoverKey  = regexp.MustCompile(`^[A-Za-z0-9]{30}$`)
	hostName     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
	// ours are headers that say who sends what; a user's would contradict them.
	ours = []string{"Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection", "User-Agent", "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"}
)

// targetCheck collects what is wrong with a target. Values of secrets are
// never noted: a mistyped one still has its credential in it.
type targetCheck struct {
	fields fault.Fields
	guard  *Guard
}

func (v *targetCheck) add(path string, reason fault.Reason, value any) {
	if !slices.ContainsFunc(v.fields, func(f fault.Field) bool { return f.Path == path }) {
		v.fields.Say(path, reason, value)
	}
}

func (v *targetCheck) spec(s *TargetSpec, name string) {
	if !slices.Contains(types, s.Type) {
		v.add("spec.type", fault.Say(fault.OneOf, strings.Join(types, ", ")), orNil(s.Type))
		return
	}
	v.body(s)
	v.headers(s)
	v.channel(s)
	for i, e := range s.Evidence {
		if !slices.Contains(evidences, e) {
			v.add(fmt.Sprintf("spec.evidence[%d]", i), fault.Say(fault.OneOf, strings.Join(evidences, ", ")), e)
		}
	}
	v.calendar(s.Calendar, name)
	if s.Fallback != "" && s.Fallback == name {
		v.add("spec.fallback", fault.Say(fault.TargetOther), s.Fallback)
	}
	if r := s.RateLimit; r != nil {
		if r.Count < 1 || r.Count > 10_000 {
			v.add("spec.rateLimit.count", fault.Say(fault.Between, 1, 10000), r.Count)
		}
		if r.Per.D() < time.Second || r.Per.D() > 24*time.Hour {
			v.add("spec.rateLimit.per", fault.Say(fault.Between, "1s", "24h"), r.Per.String())
		}
	}
	if h := s.Heartbeat; h != nil && (h.Every.D() < time.Minute || h.Every.D() > 24*time.Hour) {
		v.add("spec.heartbeat.every", fault.Say(fault.Between, "1m", "24h"), h.Every.String())
	}
}

// body checks what shapes a message: all that a preview needs.
func (v *targetCheck) body(s *TargetSpec) {
	if s.Format == "" && s.Type == TypeWebhook {
		s.Format = FormatV1
	}
	switch {
	case s.Type != TypeWebhook && s.Format != "":
		v.add("spec.format", fault.Say(fault.FormatOwn, s.Type), s.Format)
	case s.Type == TypeWebhook && !slices.Contains(formats, s.Format):
		v.add("spec.format", fault.Say(fault.OneOf, strings.Join(formats, ", ")), s.Format)
	}
	v.template(s)
	if s.MaxBytes == 0 {
		s.MaxBytes = defaultMaxLen
	}
	if s.MaxBytes < minMaxBytes || s.MaxBytes > maxMaxBytes {
		v.add("spec.maxBytes", fault.Say(fault.Between, minMaxBytes, maxMaxBytes), s.MaxBytes)
	}
	if s.Timezone != "" {
		if _, err := loadZone(s.Timezone); err != nil {
			v.add("spec.timezone", fault.Say(fault.Zone), s.Timezone)
		}
	}
}

func (v *targetCheck) template(s *TargetSpec) {
	if s.Format != FormatTemplate {
		if s.Template != nil {
			v.add("spec.template", fault.Say(fault.ForType, "format template"), nil)
		}
		return
	}
	if s.Template == nil || s.Template.Body == "" {
		v.add("spec.template.body", fault.Say(fault.RequiredFor, "format template"), nil)
		return
	}
	if s.Template.ContentType == "" {
		s.Template.ContentType = contentJSON
	}
	if !httpguts.ValidHeaderFieldValue(s.Template.ContentType) || !strings.Contains(s.Template.ContentType, "/") || len(s.Template.ContentType) > 100 {
		v.add("spec.template.contentType", fault.Say(fault.MediaType), s.Template.ContentType)
		return
	}
	if _, err := parseBody(s.Template); err != nil {
		v.add("spec.template.body", fault.Say(fault.Template, err.Error()), nil)
	}
}

func (v *targetCheck) headers(s *TargetSpec) {
	if len(s.Headers) > 0 && s.Type != TypeWebhook {
		v.add("spec.headers", fault.Say(fault.ForType, "type webhook"), nil)
		return
	}
	if len(s.Headers) > maxHeaders {
		v.add("spec.headers", fault.Say(fault.CountAtMost, maxHeaders), len(s.Headers))
		return
	}
	for name, value := range s.Headers {
		path := "spec.headers." + name
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			v.add(path, fault.Say(fault.HeaderName), nil)
		case slices.Contains(ours, http.CanonicalHeaderKey(name)):
			v.add(path, fault.Say(fault.HeaderOurs), nil)
		case value == masked:
			v.add(path, fault.Say(fault.Masked), nil)
		case !httpguts.ValidHeaderFieldValue(string(value)) || len(value) > maxHeaderLen:
			v.add(path, fault.Say(fault.OneLineAtMost, maxHeaderLen), nil)
		}
	}
}

// channel checks what the type needs, and that no other type's settings are
// there.
func (v *targetCheck) channel(s *TargetSpec) {
	for block, given := range map[string]bool{
		TypeEmail: s.Email != nil, TypeSlack: s.Slack != nil, TypePagerDuty: s.PagerDuty != nil, TypeOpsgenie: s.Opsgenie != nil, TypeTelegram: s.Telegram != nil,
		TypePushover: s.Pushover != nil, TypeWeChat: s.WeChat != nil, TypeDingTalk: s.DingTalk != nil, TypeFeishu: s.Feishu != nil,
	} {
		needed := !slices.Contains([]string{TypeSlack, TypeDingTalk, TypeFeishu}, block)
		switch {
		case given && block != s.Type:
			v.add("spec."+block, fault.Say(fault.ForType, "type "+block), nil)
		case !given && block == s.Type && needed:
			v.add("spec."+block, fault.Say(fault.RequiredFor, "type "+block), nil)
		}
	}
	for _, f := range s.secrets() {
		if f.get() == masked {
			v.add("spec."+f.path, fault.Say(fault.Masked), nil)
		} else if len(f.get()) > maxSecret && !strings.HasPrefix(f.path, "headers.") {
			v.add("spec."+f.path, fault.Say(fault.BytesAtMost, maxSecret), nil)
		}
	}
	v.address(s)
	switch {
	case s.Type == TypeEmail && s.Email != nil:
		v.email(s.Email)
	case s.Type == TypeSlack && s.Slack != nil && s.Slack.Token != "":
		if s.Slack.Channel == "" {
			v.add("spec.slack.channel", fault.Say(fault.RequiredFor, "a token"), nil)
		}
		if !strings.HasPrefix(string(s.Slack.Token), "xox") {
			v.add("spec.slack.token", fault.Say(fault.Shaped, "a bot's token, xoxb-…"), nil)
		}
	case s.Type == TypePagerDuty && s.PagerDuty != nil:
		v.shaped("spec.pagerduty.routingKey", s.PagerDuty.RoutingKey, pagerDutyKey, "the 32 letters and digits of an Events API v2 integration")
	case s.Type == TypeOpsgenie && s.Opsgenie != nil:
		if s.Opsgenie.APIKey == "" {
			v.add("spec.opsgenie.apiKey", fault.Say(fault.Required), nil)
		}
	case s.Type == TypeTelegram && s.Telegram != nil:
		v.shaped("spec.telegram.botToken", s.Telegram.BotToken, telegramBot, "a bot's token, as 123456:ABC…")
		if s.Telegram.ChatID == 0 {
			v.add("spec.telegram.chatId", fault.Say(fault.Required), nil)
		}
	case s.Type == TypePushover && s.Pushover != nil:
		v.shaped("spec.pushover.userKey", s.Pushover.UserKey, pushoverKey, "the 30 letters and digits of a user or group")
		v.shaped("spec.pushover.token", s.Pushover.Token, pushoverKey, "the 30 letters and digits of an application")
	case s.Type == TypeWeChat && s.WeChat != nil:
		for path, value := range map[string]string{"corpId": s.WeChat.CorpID, "agentId": s.WeChat.AgentID, "apiSecret": string(s.WeChat.APISecret)} {
			if value == "" {
				v.add("spec.wechat."+path, fault.Say(fault.Required), nil)
			}
		}
		if s.WeChat.ToUser == "" && s.WeChat.ToParty == "" && s.WeChat.ToTag == "" {
			v.add("spec.wechat.toUser", fault.Say(fault.OneNeededOf, "toUser, toParty, toTag"), nil)
		}
	}
}

func (v *targetCheck) shaped(path string, value Secret, re *regexp.Regexp, what string) {
	if value != masked && !re.MatchString(string(value)) {
		v.add(path, fault.Say(fault.Shaped, what), nil)
	}
}

// address checks the URL as the type needs it.
func (v *targetCheck) address(s *TargetSpec) {
	switch s.Type {
	case TypeEmail, TypePushover:
		if s.URL != "" {
			v.add("spec.url", fault.Say(fault.NotForType, "type "+s.Type), nil)
		}
		return
	case TypePagerDuty, TypeOpsgenie, TypeTelegram, TypeWeChat:
		if s.URL == "" {
			return
		}
	case TypeSlack:
		if s.Slack != nil && s.Slack.Token != "" {
			if s.URL != "" {
				v.add("spec.url", fault.Say(fault.URLOrToken), nil)
			}
			return
		}
	}
	if reason, ok := checkURL(s.URL, v.guard); !ok {
		v.add("spec.url", reason, nil)
		return
	}
	// The key of these robots is in the query; without it every message fails.
	need := map[string]string{TypeWeCom: "key", TypeDingTalk: "access_token"}[s.Type]
	if need == "" {
		return
	}
	if u, err := url.Parse(s.URL); err == nil && u.Query().Get(need) == "" {
		v.add("spec.url", fault.Say(fault.RobotKey, need), nil)
	}
}

func (v *targetCheck) email(e *Email) {
	if len(e.To) == 0 || len(e.To) > maxRecipients {
		v.add("spec.email.to", fault.Say(fault.Mailboxes, maxRecipients), len(e.To))
	}
	for i, to := range e.To {
		if !isMailbox(to) {
			v.add(fmt.Sprintf("spec.email.to[%d]", i), fault.Say(fault.Mailbox), to)
		}
	}
	if !isMailbox(e.From) {
		v.add("spec.email.from", fault.Say(fault.Mailbox), orNil(e.From))
	}
	if e.TLS == "" {
		e.TLS = "starttls"
		if e.Port == 465 {
			e.TLS = "implicit"
		}
	}
	if e.Port == 0 {
		e.Port = 587
		if e.TLS == "implicit" {
			e.Port = 465
		}
	}
	if e.Port < 1 || e.Port > 65535 {
		v.add("spec.email.port", fault.Say(fault.Between, 1, 65535), e.Port)
	}
	switch {
	case !slices.Contains([]string{"starttls", "implicit", "none"}, e.TLS):
		v.add("spec.email.tls", fault.Say(fault.OneOf, "starttls, implicit, none"), e.TLS)
	case e.TLS == "none" && e.Password != "":
		v.add("spec.email.tls", fault.Say(fault.PasswordOpen), e.TLS)
	}
	if (e.Username == "") != (e.Password == "") {
		v.add("spec.email.username", fault.Say(fault.PasswordAlone), nil)
	}
	if strings.ContainsAny(e.Username, "\r\n\x00") {
		v.add("spec.email.username", fault.Say(fault.OneLine), nil)
	}
	if !hostName.MatchString(e.Host) && !strings.Contains(e.Host, ":") {
		v.add("spec.email.host", fault.Say(fault.MailHost), orNil(e.Host))
	} else if reason, ok := checkHost(e.Host, v.guard); !ok {
		v.add("spec.email.host", reason, e.Host)
	}
}

// isMailbox tells one address from what could add recipients or headers.
func isMailbox(s string) bool {
	a, err := mail.ParseAddress(s)
	return err == nil && !strings.ContainsAny(s, "\r\n,{}") && strings.Contains(a.Address, "@")
}
