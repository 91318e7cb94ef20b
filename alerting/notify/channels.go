package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/alertmanager/alert"
	amconfig "github.com/prometheus/alertmanager/config"
	amcommon "github.com/prometheus/alertmanager/config/common"
	amnotify "github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/notify/discord"
	"github.com/prometheus/alertmanager/notify/email"
	"github.com/prometheus/alertmanager/notify/msteamsv2"
	"github.com/prometheus/alertmanager/notify/opsgenie"
	"github.com/prometheus/alertmanager/notify/pagerduty"
	"github.com/prometheus/alertmanager/notify/pushover"
	"github.com/prometheus/alertmanager/notify/slack"
	"github.com/prometheus/alertmanager/notify/telegram"
	"github.com/prometheus/alertmanager/notify/wechat"
	commoncfg "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// What Alertmanager's templates are given: one alert with the words that we
// wrote. Nothing that a user wrote is read as a template there.
const (
	tmplTitle    = `{{ .CommonAnnotations.title }}`
	tmplText     = `{{ .CommonAnnotations.text }}`
	tmplBoth     = `{{ .CommonAnnotations.title }}` + "\n" + `{{ .CommonAnnotations.text }}`
	tmplURL      = `{{ .CommonAnnotations.url }}`
	tmplSeverity = `{{ .CommonLabels.severity }}`
)

// Addresses of the services, where a target names no other.
const (
	urlSlack     = "https://slack.com/api/chat.postMessage"
	urlPagerDuty = "https://events.pagerduty.com/v2/enqueue"
	urlOpsgenie  = "https://api.opsgenie.com/"
	urlTelegram  = "https://api.telegram.org"
	urlWeChat    = "https://qyapi.weixin.qq.com/cgi-bin/"
)

// literal escapes what Alertmanager would read as a template.
func literal(s string) string { return strings.ReplaceAll(s, "{{", `{{ "{{" }}`) }

// summary is the one alert that stands for a message in Alertmanager's
// notifiers, with the context that they want.
func summary(ctx context.Context, m incident.Message, spec *TargetSpec) (context.Context, *alert.Alert) {
	title, text := words(m, spec.zone())
	labels := model.LabelSet{"alertname": model.LabelValue(firstOf(m.Incident.Title, string(m.Type))), "severity": model.LabelValue(m.Incident.Severity)}
	if m.Incident.Cluster.ID != "" {
		labels["cluster"] = model.LabelValue(m.Incident.Cluster.ID)
	}
	a := &alert.Alert{Alert: model.Alert{
		Labels: labels, StartsAt: time.Time(m.Incident.StartedAt), GeneratorURL: m.Incident.URL,
		Annotations: model.LabelSet{"title": model.LabelValue(title), "text": model.LabelValue(clip(text, spec.MaxBytes/2)), "url": model.LabelValue(m.Incident.URL)},
	}}
	if !firing(m) {
		a.EndsAt = a.StartsAt
	}
	ctx = amnotify.WithGroupKey(ctx, m.Incident.ID) // which receivers join messages by
	ctx = amnotify.WithReceiverName(ctx, "crowsnest")
	ctx = amnotify.WithGroupLabels(ctx, labels)
	ctx = amnotify.WithNotificationReason(ctx, amnotify.ReasonFirstNotification)
	return ctx, a
}

// notifier sends by one of Alertmanager's notifiers. Their requests come
// through the relay, so that guard, bounds and records are the same for all.
func (c *client) notifier(ctx context.Context, to Sealed, n note, now time.Time) answer {
	m, err := n.message()
	if err != nil {
		return answer{outcome: final, err: err.Error()}
	}
	call := c.relay.call(ctx, now)
	defer call.close()
	out, err := c.channel(to.Spec, m, call)
	if err != nil {
		return answer{outcome: final, err: "the target's settings cannot be used: " + withoutURL(err)}
	}
	ctx, a := summary(ctx, m, to.Spec)
	_, err = out.Notify(ctx, a)
	got := call.answer(err)
	if to.Spec.Type == TypeOpsgenie && changes(m) && got.outcome == delivered {
		return c.prioritize(ctx, to.Spec, m, got, now)
	}
	return got
}

// prioritize gives an alert that Opsgenie has already the priority of its severity
// now: a second creation does not change it, and Alertmanager's notifier leaves it.
// https://docs.opsgenie.com/docs/alert-api#update-alert-priority
func (c *client) prioritize(ctx context.Context, s *TargetSpec, m incident.Message, created answer, now time.Time) answer {
	alias := amnotify.Key(m.Incident.ID).Hash()
	body := []byte(`{"priority":"` + opsgeniePriority(m.Incident.Severity) + `"}`)
	req, err := post(ctx, strings.TrimSuffix(firstOf(s.URL, urlOpsgenie), "/")+"/v2/alerts/"+alias+"/priority?identifierType=alias", contentJSON, body)
	if err != nil {
		return answer{outcome: final, err: err.Error()}
	}
	req.Method = http.MethodPut
	req.Header.Set("Authorization", "GenieKey "+s.Opsgenie.APIKey.Reveal())
	a, _ := c.do(req, body, now)
	if a.outcome != delivered {
		a.maybe = true // the message itself was taken
		return a
	}
	return created
}

func opsgeniePriority(severity string) string {
	switch catalogue.Severity(severity) {
	case catalogue.Critical:
		return "P1"
	case catalogue.Warning:
		return "P3"
	default:
		return "P5"
	}
}

// changes says whether a message changes what its receiver was told before.
func changes(m incident.Message) bool { return m.Sequence > 1 && firing(m) }

// channel makes the notifier for a message to a target.
func (c *client) channel(s *TargetSpec, m incident.Message, call *relayCall) (amnotify.Notifier, error) {
	t, err := am()
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler) // it would hold what was sent
	web := &commoncfg.HTTPClientConfig{}
	opts := call.options()
	address := func(standard string) (*amcommon.URL, error) {
		u, err := url.Parse(firstOf(s.URL, standard))
		if err != nil {
			return nil, err
		}
		return &amcommon.URL{URL: u}, nil
	}
	switch s.Type {
	case TypeSlack:
		u, err := address(urlSlack)
		if err != nil {
			return nil, err
		}
		conf := &amconfig.SlackConfig{
			HTTPConfig: web, APIURL: (*amcommon.SecretURL)(u), Title: tmplTitle, TitleLink: tmplURL, Text: tmplText, Fallback: tmplTitle,
			Color: `{{ if eq .Status "firing" }}danger{{ else }}good{{ end }}`,
		}
		if s.Slack != nil {
			conf.Channel = literal(s.Slack.Channel)
			if s.Slack.Token != "" {
				web.Authorization = &commoncfg.Authorization{Type: "Bearer", Credentials: commoncfg.Secret(s.Slack.Token)}
			}
		}
		return slack.New(conf, t, log, opts...)
	case TypeTeams:
		u, err := address("")
		if err != nil {
			return nil, err
		}
		return msteamsv2.New(&msteamsv2.MSTeamsV2Config{HTTPConfig: web, WebhookURL: (*amcommon.SecretURL)(u), Title: tmplTitle, Text: tmplText}, t, log, opts...)
	case TypeDiscord:
		u, err := address("")
		if err != nil {
			return nil, err
		}
		return discord.New(&discord.DiscordConfig{HTTPConfig: web, WebhookURL: (*amcommon.SecretURL)(u), Title: tmplTitle, Message: tmplText}, t, log, opts...)
	case TypePagerDuty:
		u, err := address(urlPagerDuty)
		if err != nil {
			return nil, err
		}
		return pagerduty.New(&pagerduty.PagerdutyConfig{
			HTTPConfig: web, URL: u, RoutingKey: commoncfg.Secret(s.PagerDuty.RoutingKey), Client: "Crowsnest", ClientURL: tmplURL, Description: tmplTitle,
			Source: `{{ or .CommonLabels.cluster "crowsnest" }}`, Severity: tmplSeverity, Details: map[string]any{"text": tmplText},
		}, t, log, opts...)
	case TypeOpsgenie:
		u, err := address(urlOpsgenie)
		if err != nil {
			return nil, err
		}
		if !strings.HasSuffix(u.Path, "/") {
			u.Path += "/"
		}
		conf := &opsgenie.OpsGenieConfig{
			HTTPConfig: web, APIURL: u, APIKey: commoncfg.Secret(literal(string(s.Opsgenie.APIKey))), Message: tmplTitle, Description: tmplText, Source: "Crowsnest",
			Priority: opsgeniePriority(m.Incident.Severity), UpdateAlerts: changes(m),
		}
		for _, team := range s.Opsgenie.Teams {
			conf.Responders = append(conf.Responders, opsgenie.OpsGenieConfigResponder{Name: literal(team), Type: "team"})
		}
		return opsgenie.New(conf, t, log, opts...)
	case TypeTelegram:
		u, err := address(urlTelegram)
		if err != nil {
			return nil, err
		}
		u.URL.Path = strings.TrimSuffix(u.URL.Path, "/")
		return telegram.New(&telegram.TelegramConfig{
			HTTPConfig: web, APIUrl: u, BotToken: commoncfg.Secret(s.Telegram.BotToken), ChatID: s.Telegram.ChatID, MessageThreadID: s.Telegram.ThreadID, Message: tmplBoth,
		}, t, log, opts...)
	case TypePushover:
		return pushover.New(&amconfig.PushoverConfig{
			HTTPConfig: web, UserKey: commoncfg.Secret(s.Pushover.UserKey), Token: commoncfg.Secret(s.Pushover.Token), Title: tmplTitle, Message: tmplText, URL: tmplURL,
			Priority: `{{ if and (eq .Status "firing") (eq .CommonLabels.severity "critical") }}1{{ else }}0{{ end }}`,
		}, t, log, opts...)
	case TypeWeChat:
		u, err := address(urlWeChat)
		if err != nil {
			return nil, err
		}
		w := s.WeChat
		return wechat.New(&amconfig.WechatConfig{
			HTTPConfig: web, APIURL: u, CorpID: literal(w.CorpID), AgentID: literal(w.AgentID), APISecret: commoncfg.Secret(literal(string(w.APISecret))),
			ToUser: literal(w.ToUser), ToParty: literal(w.ToParty), ToTag: literal(w.ToTag), MessageType: "text", Message: tmplBoth,
		}, t, log, opts...)
	}
	return nil, fmt.Errorf("there is no channel %q", s.Type)
}

// Most that the robots take, in bytes.
const (
	maxWeCom    = 4096
	maxDingTalk = 18_000
	maxFeishu   = 18_000
)

// robot posts to the group robots that no library of Alertmanager's knows.
func (c *client) robot(ctx context.Context, to Sealed, n note, now time.Time) answer {
	m, err := n.message()
	if err != nil {
		return answer{outcome: final, err: err.Error()}
	}
	title, text := words(m, to.Spec.zone())
	address := to.Spec.URL
	var payload any
	switch to.Spec.Type {
	case TypeWeCom:
		payload = map[string]any{"msgtype": "markdown", "markdown": map[string]string{"content": clip("**"+title+"**\n"+text, min(maxWeCom, to.Spec.MaxBytes))}}
	case TypeDingTalk:
		// A single line feed is no new line in its Markdown.
		lines := strings.ReplaceAll(clip(text, min(maxDingTalk, to.Spec.MaxBytes/2)), "\n", "\n\n")
		payload = map[string]any{"msgtype": "markdown", "markdown": map[string]string{"title": title, "text": "### " + title + "\n\n" + lines}}
		if to.Spec.DingTalk != nil && to.Spec.DingTalk.Secret != "" {
			if address, err = signDingTalk(address, to.Spec.DingTalk.Secret.Reveal(), now); err != nil {
				return answer{outcome: final, err: "the target's address cannot be used"}
			}
		}
	case TypeFeishu:
		row := []map[string]string{{"tag": "text", "text": clip(text, min(maxFeishu, to.Spec.MaxBytes/2))}}
		p := map[string]any{"msg_type": "post", "content": map[string]any{"post": map[string]any{"zh_cn": map[string]any{"title": title, "content": [][]map[string]string{row}}}}}
		if to.Spec.Feishu != nil && to.Spec.Feishu.Secret != "" {
			p["timestamp"] = strconv.FormatInt(now.Unix(), 10)
			p["sign"] = signFeishu(to.Spec.Feishu.Secret.Reveal(), now)
		}
		payload = p
	}
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(payload); err != nil {
		return answer{outcome: final, err: err.Error()}
	}
	req, err := post(ctx, address, contentJSON, body.Bytes())
	if err != nil {
		return answer{outcome: final, err: err.Error()}
	}
	a, said := c.do(req, body.Bytes(), now)
	if a.outcome != delivered {
		return a
	}
	// They answer 200 to everything; what came of it is in the body.
	var result struct {
		ErrCode *int   `json:"errcode"`
		Code    *int   `json:"code"`
		ErrMsg  string `json:"errmsg"`
		Msg     string `json:"msg"`
	}
	code := -1
	if json.Unmarshal(said, &result) == nil {
		for _, given := range []*int{result.ErrCode, result.Code} {
			if given != nil {
				code = *given
			}
		}
	}
	if code != 0 {
		a.outcome, a.maybe = retry, code == -1 // nonsense may come after the act
		a.err = fmt.Sprintf("the robot answered code %d: %s", code, printable([]byte(firstOf(result.ErrMsg, result.Msg)), 200))
	}
	return a
}

func signDingTalk(address, secret string, now time.Time) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	stamp := strconv.FormatInt(now.UnixMilli(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = io.WriteString(mac, stamp+"\n"+secret)
	q := u.Query()
	q.Set("timestamp", stamp)
	q.Set("sign", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	u.RawQuery = q.Encode()
	return u.String(), nil
}

func signFeishu(secret string, now time.Time) string {
	// The text is the key here, and nothing is what is signed.
	mac := hmac.New(sha256.New, []byte(strconv.FormatInt(now.Unix(), 10)+"\n"+secret))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// email sends by SMTP. Alertmanager's notifier dials by itself and sets no
// deadlines, so that it is given a door of ours on loopback, behind which the
// guard dials, and which closes when the time is over.
func (c *client) email(ctx context.Context, to Sealed, n note) (a answer) {
	e := to.Spec.Email
	address := net.JoinHostPort(e.Host, strconv.Itoa(e.Port))
	a.request = fmt.Sprintf("SMTP %s\nfrom: %s\nto: %s", address, e.From, strings.Join(e.To, ", "))
	m, err := n.message()
	if err != nil {
		return answer{outcome: final, err: err.Error()}
	}
	t, err := am()
	if err != nil {
		return answer{outcome: final, err: err.Error()}
	}
	conn, err := c.dial(ctx, "tcp", address)
	if err != nil {
		a.outcome, a.err = retry, withoutURL(err)
		return a
	}
	door, err := openDoor(ctx, conn)
	if err != nil {
		a.outcome, a.err = retry, err.Error()
		return a
	}
	defer door.close()
	host, port, err := net.SplitHostPort(door.address)
	if err != nil {
		a.outcome, a.err = retry, err.Error()
		return a
	}
	implicit, tls := e.TLS == "implicit", e.TLS != "none"
	out := email.New(&amconfig.EmailConfig{
		To: strings.Join(e.To, ", "), From: e.From, Smarthost: amconfig.HostPort{Host: host, Port: port}, AuthUsername: e.Username,
		AuthPassword: commoncfg.Secret(e.Password), AuthSecret: commoncfg.Secret(e.Password), RequireTLS: &tls, ForceImplicitTLS: &implicit,
		TLSConfig: &commoncfg.TLSConfig{ServerName: e.Host, CA: c.smtpCA}, Text: tmplText,
		Headers: map[string]string{"Subject": tmplTitle, "Message-Id": "<" + n.id + "@crowsnest>", "Auto-Submitted": "auto-generated"},
	}, t, slog.New(slog.DiscardHandler))
	amCtx, one := summary(ctx, m, to.Spec)
	again, err := out.Notify(amCtx, one)
	a.response = door.heard()
	switch {
	case err == nil:
		a.outcome, a.maybe = delivered, true
	case !again:
		a.outcome, a.err = final, err.Error()
	default:
		// Only when the whole message was handed over may it have been taken.
		a.outcome, a.err, a.maybe = retry, err.Error(), strings.HasPrefix(err.Error(), "delivery failure")
	}
	if a.err != "" && ctx.Err() != nil {
		a.err = "no answer in time"
	}
	a.err = strings.ReplaceAll(a.err, door.address, address)
	return a
}
