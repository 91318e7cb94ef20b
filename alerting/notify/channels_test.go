package notify

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// service stands in for a public one: all that is dialled ends at it, by TLS
// that our client trusts.
type service struct {
	mu      sync.Mutex
	status  int
	answer  string
	refuses string // paths that end so are answered 503
	got     []request
}

type request struct {
	host, path, query, auth, contentType string
	body                                 []byte
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, request{r.Host, r.URL.Path, r.URL.RawQuery, r.Header.Get("Authorization"), r.Header.Get("Content-Type"), body})
	if strings.HasPrefix(s.answer, "{") {
		w.Header().Set("Content-Type", contentJSON)
	}
	if s.status != 200 {
		w.Header().Set("Retry-After", "7")
	}
	if s.refuses != "" && strings.HasSuffix(r.URL.Path, s.refuses) {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(s.status)
	_, _ = io.WriteString(w, s.answer)
}

func newService(t *testing.T, answer string) (*service, *client) {
	t.Helper()
	s := &service{status: 200, answer: answer}
	srv := httptest.NewTLSServer(s)
	t.Cleanup(srv.Close)
	c := newClient(&Guard{}, 5*time.Second)
	t.Cleanup(c.close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	transport, ok := c.http.Transport.(*http.Transport)
	if !ok {
		t.Fatal("the client has another transport")
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, ServerName: "example.com", MinVersion: tls.VersionTLS12}
	c.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, srv.Listener.Addr().String())
	}
	return s, c
}

func secretsOf(s *TargetSpec) []string {
	out := []string{}
	for _, f := range s.secrets() {
		if f.get() != "" {
			out = append(out, string(f.get()))
		}
	}
	return out
}

// Each channel sends what its service takes, and what the service says counts.
func TestChannels(t *testing.T) {
	const key30, key32 = "abcdefghijklmnopqrstuvwxyz1234", "0123456789abcdef0123456789abcdef"
	for name, tc := range map[string]struct {
		spec            TargetSpec
		ok, no          string // what the service answers
		host, path, has string // of the last request
		resolved        string // part of a resolve's path or body
	}{
		"slack webhook": {TargetSpec{Type: TypeSlack, URL: "https://hooks.slack.com/services/T0/B0/verysecret"}, `ok`, `invalid_token`,
			"hooks.slack.com", "/services/T0/B0/verysecret", `"title":"[CRITICAL] cart in shop`, `"color":"good"`},
		"slack bot": {TargetSpec{Type: TypeSlack, Slack: &Slack{Channel: "#alerts", Token: "xoxb-verysecret"}}, `{"ok":true}`, `{"ok":false,"error":"channel_not_found"}`,
			"slack.com", "/api/chat.postMessage", `"channel":"#alerts"`, `"color":"good"`},
		"teams":   {TargetSpec{Type: TypeTeams, URL: "https://x.webhook.office.com/verysecret"}, `1`, "", "x.webhook.office.com", "/verysecret", `AdaptiveCard`, "RESOLVED"},
		"discord": {TargetSpec{Type: TypeDiscord, URL: "https://discord.com/api/webhooks/1/verysecret"}, ``, "", "discord.com", "/api/webhooks/1/verysecret", `"embeds"`, "RESOLVED"},
		"pagerduty": {TargetSpec{Type: TypePagerDuty, PagerDuty: &PagerDuty{RoutingKey: key32}}, `{"status":"success"}`, "",
			"events.pagerduty.com", "/v2/enqueue", `"severity":"critical"`, `"event_action":"resolve"`},
		"opsgenie": {TargetSpec{Type: TypeOpsgenie, Opsgenie: &Opsgenie{APIKey: "verysecret-key", Teams: []string{"ops"}}}, `{"result":"ok"}`, "",
			"api.opsgenie.com", "/v2/alerts", `"priority":"P1"`, "/close"},
		"telegram": {TargetSpec{Type: TypeTelegram, Telegram: &Telegram{BotToken: "123456:abcdefghijklmnopqrstuv", ChatID: -100}}, `{"ok":true,"result":{"message_id":1,"chat":{"id":-100}}}`, `{"ok":false,"error_code":400,"description":"chat not found"}`,
			"api.telegram.org", "/bot123456:abcdefghijklmnopqrstuv/sendMessage", `[CRITICAL] cart in shop`, "RESOLVED"},
		"pushover": {TargetSpec{Type: TypePushover, Pushover: &Pushover{UserKey: key30, Token: key30}}, `{"status":1}`, "",
			"api.pushover.net", "/1/messages.json", "priority=1", "RESOLVED"},
		"wechat": {TargetSpec{Type: TypeWeChat, WeChat: &WeChat{CorpID: "corp", AgentID: "7", APISecret: "verysecret", ToUser: "@all"}}, `{"errcode":0,"access_token":"tok"}`, `{"errcode":81013,"errmsg":"invalid","access_token":"tok"}`,
			"qyapi.weixin.qq.com", "/cgi-bin/message/send", `"touser":"@all"`, "RESOLVED"},
		"wecom": {TargetSpec{Type: TypeWeCom, URL: "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=verysecret"}, `{"errcode":0}`, `{"errcode":93000,"errmsg":"invalid webhook url verysecret"}`,
			"qyapi.weixin.qq.com", "/cgi-bin/webhook/send", `"msgtype":"markdown"`, "RESOLVED"},
		"dingtalk": {TargetSpec{Type: TypeDingTalk, URL: "https://oapi.dingtalk.com/robot/send?access_token=verysecret", DingTalk: &Signed{Secret: "SECabc123"}}, `{"errcode":0,"errmsg":"ok"}`, `{"errcode":310000,"errmsg":"sign not match"}`,
			"oapi.dingtalk.com", "/robot/send", `"msgtype":"markdown"`, "RESOLVED"},
		"feishu": {TargetSpec{Type: TypeFeishu, URL: "https://open.feishu.cn/open-apis/bot/v2/hook/verysecret", Feishu: &Signed{Secret: "abc123def"}}, `{"code":0,"msg":"success"}`, `{"code":19021,"msg":"sign match fail"}`,
			"open.feishu.cn", "/open-apis/bot/v2/hook/verysecret", `"msg_type":"post"`, "RESOLVED"},
	} {
		t.Run(name, func(t *testing.T) {
			v := &targetCheck{guard: &Guard{}}
			if v.spec(&tc.spec, "x"); v.fields.Err() != nil {
				t.Fatal(v.fields.Err())
			}
			s, c := newService(t, tc.ok)
			to := Sealed{Secret: NewSecret(), Spec: &tc.spec}
			send := func(m incident.Message) answer { return c.send(context.Background(), to, noteOf(t, m), t0) }

			a := send(sample(incident.Firing))
			if a.outcome != delivered || a.err != "" || a.status != 200 {
				t.Fatalf("got %+v", a)
			}
			last := s.got[len(s.got)-1]
			if last.host != tc.host || last.path != tc.path || !strings.Contains(last.query+string(last.body), tc.has) {
				t.Errorf("sent %s%s?%s: %s", last.host, last.path, last.query, last.body)
			}
			if bytes.Contains(last.body, []byte("{{ index")) || (strings.Contains(last.contentType, "json") && !json.Valid(last.body)) {
				t.Errorf("the body is %s", last.body)
			}
			send(sample(incident.Resolved))
			last = s.got[len(s.got)-1]
			if !strings.Contains(last.path+last.query+string(last.body), tc.resolved) {
				t.Errorf("a resolve is %s?%s %s", last.path, last.query, last.body)
			}

			s.status = 503
			if a = send(sample(incident.Firing)); a.outcome != retry || a.status != 503 || a.retryAfter != 7*time.Second {
				t.Errorf("of 503: %+v", a)
			}
			s.status = 400
			if a = send(sample(incident.Firing)); a.outcome != final && name != "telegram" && name != "wechat" {
				t.Errorf("of 400: %+v", a)
			}
			if s.status = 200; tc.no != "" {
				s.answer = tc.no
				if a = send(sample(incident.Firing)); a.outcome == delivered || a.err == "" {
					t.Errorf("of %s: %+v", tc.no, a)
				}
			}
			// None of its secrets is in what is kept, whatever was answered.
			s.status, s.answer = 500, fmt.Sprint(secretsOf(&tc.spec), tc.spec.URL)
			a = send(sample(incident.Firing))
			for _, secret := range append(secretsOf(&tc.spec), "verysecret") {
				if kept := fmt.Sprintf("%+v", a); strings.Contains(kept, secret) {
					t.Errorf("%s is kept: %s", secret, kept)
				}
			}
			// Nor in what the API shows.
			shown, err := tc.spec.clone()
			if err != nil {
				t.Fatal(err)
			}
			shown.mask()
			raw, _ := json.Marshal(shown)
			for _, secret := range append(secretsOf(&tc.spec), "verysecret") {
				if bytes.Contains(raw, []byte(secret)) {
					t.Errorf("%s is shown: %s", secret, raw)
				}
			}
			shown.unmask(&tc.spec)
			again, _ := json.Marshal(shown)
			if before, _ := json.Marshal(tc.spec); !bytes.Equal(again, before) {
				t.Errorf("written back as shown it is %s", again)
			}
		})
	}
}

// A severity that rises changes the alert that Opsgenie has, its priority included,
// and a service that refuses just that is asked again.
func TestOpsgenieFollowsTheSeverity(t *testing.T) {
	s, c := newService(t, `{"result":"ok"}`)
	to := Sealed{Secret: NewSecret(), Spec: &TargetSpec{Type: TypeOpsgenie, Opsgenie: &Opsgenie{APIKey: "verysecret-key"}, MaxBytes: 1 << 16}}
	m := sample(incident.Firing)
	if a := c.send(context.Background(), to, noteOf(t, m), t0); a.outcome != delivered || len(s.got) != 1 {
		t.Fatalf("the first message took %d requests: %+v", len(s.got), a)
	}
	alias := struct{ Alias string }{}
	if err := json.Unmarshal(s.got[0].body, &alias); err != nil || alias.Alias == "" {
		t.Fatalf("created %s: %v", s.got[0].body, err)
	}
	m.Type, m.Sequence, m.Incident.Severity = incident.Severity, 2, "info"
	if a := c.send(context.Background(), to, noteOf(t, m), t0); a.outcome != delivered {
		t.Fatalf("got %+v", a)
	}
	last := s.got[len(s.got)-1]
	if last.path != "/v2/alerts/"+alias.Alias+"/priority" || last.query != "identifierType=alias" || string(last.body) != `{"priority":"P5"}` || last.auth != s.got[0].auth {
		t.Errorf("sent %s?%s %s by %q", last.path, last.query, last.body, last.auth)
	}
	var changed []string
	for _, r := range s.got[1 : len(s.got)-1] {
		changed = append(changed, strings.TrimPrefix(r.path, "/v2/alerts/"+alias.Alias))
	}
	if want := []string{"/v2/alerts", "/message", "/description"}; !slices.Equal(changed, want) {
		t.Errorf("before it were changed %v, want %v", changed, want)
	}
	s.refuses, s.got = "/priority", nil
	if a := c.send(context.Background(), to, noteOf(t, m), t0); a.outcome != retry || !a.maybe || strings.Contains(fmt.Sprintf("%+v", a), "verysecret") {
		t.Errorf("of a priority that is refused: %+v", a)
	}
	m.Type, m.Incident.State, s.refuses, s.got = incident.Resolved, "resolved", "", nil
	if a := c.send(context.Background(), to, noteOf(t, m), t0); a.outcome != delivered || len(s.got) != 1 {
		t.Errorf("a resolve took %d requests: %+v", len(s.got), a)
	}
}

// The guard stands before every channel.
func TestTheGuardHoldsForEveryChannel(t *testing.T) {
	hit := false
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hit = true }))
	defer srv.Close()
	host, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	at := "http://localhost:" + port + "/?key=k&access_token=k"
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(&Guard{}, 5*time.Second)
	defer c.close()
	for _, spec := range []TargetSpec{
		{Type: TypeWebhook, URL: at}, {Type: TypeSlack, URL: at}, {Type: TypeTeams, URL: at}, {Type: TypeDiscord, URL: at}, {Type: TypeWeCom, URL: at}, {Type: TypeDingTalk, URL: at},
		{Type: TypeFeishu, URL: at}, {Type: TypePagerDuty, URL: at, PagerDuty: &PagerDuty{RoutingKey: "k"}}, {Type: TypeOpsgenie, URL: at, Opsgenie: &Opsgenie{APIKey: "k"}},
		{Type: TypeTelegram, URL: at, Telegram: &Telegram{BotToken: "k", ChatID: 1}}, {Type: TypeWeChat, URL: at, WeChat: &WeChat{CorpID: "k", AgentID: "1", APISecret: "k", ToUser: "a"}},
		{Type: TypeEmail, Email: &Email{To: []string{"a@b.example"}, From: "c@d.example", Host: host, Port: n, TLS: "none"}},
	} {
		spec.MaxBytes = defaultMaxLen
		a := c.send(context.Background(), Sealed{Secret: NewSecret(), Spec: &spec}, noteOf(t, sample(incident.Firing)), t0)
		if a.outcome != retry || a.maybe || hit || !strings.Contains(a.err, "loopback") {
			t.Errorf("%s: %+v, reached: %t", spec.Type, a, hit)
		}
	}
}

func TestTargetsThatAreWrong(t *testing.T) {
	for name, tc := range map[string]struct{ spec, path string }{
		"no type":              {`{url: "https://a.example/x"}`, "spec.type"},
		"unknown key":          {`{type: webhook, url: "https://a.example/x", retries: 3}`, "spec.retries"},
		"metadata service":     {`{type: webhook, url: "http://169.254.169.254/latest/meta-data"}`, "spec.url"},
		"user in URL":          {`{type: webhook, url: "https://u:p@a.example/x"}`, "spec.url"},
		"block of another":     {`{type: webhook, url: "https://a.example/x", telegram: {botToken: "1", chatId: 1}}`, "spec.telegram"},
		"block missing":        {`{type: pagerduty}`, "spec.pagerduty"},
		"key misshapen":        {`{type: pagerduty, pagerduty: {routingKey: short}}`, "spec.pagerduty.routingKey"},
		"masked at creation":   {`{type: opsgenie, opsgenie: {apiKey: "***"}}`, "spec.opsgenie.apiKey"},
		"format of a chat":     {`{type: slack, url: "https://a.example/x", format: crowsnest/v1}`, "spec.format"},
		"template missing":     {`{type: webhook, url: "https://a.example/x", format: template}`, "spec.template.body"},
		"template broken":      {`{type: webhook, url: "https://a.example/x", format: template, template: {body: "{{"}}`, "spec.template.body"},
		"header injection":     {`{type: webhook, url: "https://a.example/x", headers: {X-A: "a\r\nB: c"}}`, "spec.headers.X-A"},
		"header of ours":       {`{type: webhook, url: "https://a.example/x", headers: {Webhook-Id: "a"}}`, "spec.headers.Webhook-Id"},
		"robot without key":    {`{type: wecom, url: "https://qyapi.weixin.qq.com/cgi-bin/webhook/send"}`, "spec.url"},
		"mail injection":       {`{type: email, email: {to: ["a@b.example\r\nBcc: x@y.example"], from: "c@d.example", host: m.example}}`, "spec.email.to[0]"},
		"mail template":        {`{type: email, email: {to: ["a@b.example"], from: "{{x}}@d.example", host: m.example}}`, "spec.email.from"},
		"password in the open": {`{type: email, email: {to: ["a@b.example"], from: "c@d.example", host: m.example, username: u, password: p, tls: none}}`, "spec.email.tls"},
		"mail to metadata":     {`{type: email, email: {to: ["a@b.example"], from: "c@d.example", host: 169.254.169.254}}`, "spec.email.host"},
		"zone":                 {`{type: webhook, url: "https://a.example/x", timezone: Mars/Olympus}`, "spec.timezone"},
		"local zone":           {`{type: webhook, url: "https://a.example/x", calendar: {timezone: Local, within: [{from: "08:00", to: "18:00"}]}}`, "spec.calendar.timezone"},
		"hours":                {`{type: webhook, url: "https://a.example/x", calendar: {timezone: UTC, within: [{from: "8", to: "25:00"}]}}`, "spec.calendar.within[0].from"},
		"its own fallback":     {`{type: webhook, url: "https://a.example/x", fallback: a}`, "spec.fallback"},
		"rate":                 {`{type: webhook, url: "https://a.example/x", rateLimit: {count: 0, per: 1m}}`, "spec.rateLimit.count"},
		"heartbeat":            {`{type: webhook, url: "https://a.example/x", heartbeat: {every: 5s}}`, "spec.heartbeat.every"},
		"evidence":             {`{type: webhook, url: "https://a.example/x", evidence: [secrets]}`, "spec.evidence[0]"},
	} {
		_, err := ParseTarget([]byte("apiVersion: crowsnest.dev/v1\nkind: Target\nmetadata: {name: a}\nspec: "+tc.spec), nil, &Guard{})
		var fields fault.Fields
		if !errors.As(err, &fields) || len(fields) == 0 || fields[0].Path != tc.path {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// mailServer is a small SMTP server; it takes one message a connection.
type mailServer struct {
	listener net.Listener
	tls      *tls.Config
	fail     string // what it answers to the end of DATA instead of 250
	silent   bool   // says nothing after the greeting
	wg       sync.WaitGroup
	mu       sync.Mutex
	from     string
	to       []string
	auth     string
	message  []byte
	secure   bool
}

func newMailServer(t *testing.T, withTLS bool) (*mailServer, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s := &mailServer{}
	if withTLS {
		s.tls = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	}
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.listener.Close(); s.wg.Wait() })
	s.wg.Go(func() {
		for {
			conn, err := s.listener.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { defer conn.Close(); s.serve(conn) })
		}
	})
	return s, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func (s *mailServer) serve(conn net.Conn) {
	in := textproto.NewReader(bufio.NewReader(conn))
	say := func(format string, args ...any) { fmt.Fprintf(conn, format+"\r\n", args...) }
	say("220 mail.example ESMTP")
	for {
		line, err := in.ReadLine()
		if err != nil {
			return
		}
		if s.silent {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		s.mu.Lock()
		switch strings.ToUpper(word) {
		case "EHLO":
			if s.tls != nil && !s.secure {
				say("250-mail.example\r\n250 STARTTLS")
			} else {
				say("250-mail.example\r\n250 AUTH PLAIN")
			}
		case "STARTTLS":
			say("220 go on")
			secure := tls.Server(conn, s.tls)
			if err := secure.Handshake(); err != nil {
				s.mu.Unlock()
				return
			}
			conn, s.secure = secure, true
			in = textproto.NewReader(bufio.NewReader(secure))
		case "AUTH":
			s.auth = rest
			say("235 yes")
		case "MAIL":
			s.from = rest
			say("250 ok")
		case "RCPT":
			s.to = append(s.to, rest)
			say("250 ok")
		case "DATA":
			say("354 go on")
			s.message, _ = in.ReadDotBytes()
			if s.fail != "" {
				say("%s", s.fail)
			} else {
				say("250 taken as 42")
			}
		case "QUIT":
			say("221 bye")
			s.mu.Unlock()
			return
		default:
			say("500 what?")
		}
		s.mu.Unlock()
	}
}

func TestEmail(t *testing.T) {
	s, ca := newMailServer(t, true)
	c := newClient(&Guard{Allowed: loopback}, 5*time.Second)
	defer c.close()
	c.smtpCA = ca
	_, port, err := net.SplitHostPort(s.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(port)
	spec := &TargetSpec{Type: TypeEmail, MaxBytes: defaultMaxLen, Email: &Email{
		To: []string{"ops@shop.example", "Lead <lead@shop.example>"}, From: "Crowsnest <nest@shop.example>", Host: "localhost", Port: n, Username: "nest", Password: "mailsecret",
	}}
	v := &targetCheck{guard: c.guard}
	if v.spec(spec, "x"); v.fields.Err() != nil {
		t.Fatal(v.fields.Err())
	}
	send := func() answer {
		return c.send(context.Background(), Sealed{Secret: NewSecret(), Spec: spec}, noteOf(t, sample(incident.Firing)), t0)
	}
	if a := send(); a.outcome != delivered || a.err != "" {
		t.Fatalf("got %+v", a)
	}
	if auth := strings.TrimPrefix(s.auth, "PLAIN "); !s.secure {
		t.Error("it went over an open connection")
	} else if raw, err := base64.StdEncoding.DecodeString(auth); err != nil || string(raw) != "\x00nest\x00mailsecret" {
		t.Errorf("auth %q", s.auth)
	}
	if s.from != "FROM:<nest@shop.example>" && !strings.HasPrefix(s.from, "FROM:<nest@shop.example>") || len(s.to) != 2 || s.to[1] != "TO:<lead@shop.example>" {
		t.Errorf("from %s to %v", s.from, s.to)
	}
	m, err := mail.ReadMessage(bytes.NewReader(s.message))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil || !strings.HasPrefix(subject, "[CRITICAL] cart in shop") {
		t.Errorf("subject %q, %v", subject, err)
	}
	if id := m.Header.Get("Message-Id"); id != "<ntf_01KAXW8Q3Z5V9T2R4M6N8P0QRS@crowsnest>" {
		t.Errorf("message id %s: a retry must have the same", id)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	part, err := multipart.NewReader(m.Body, params["boundary"]).NextRawPart()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(quotedprintable.NewReader(part))
	if err != nil || !bytes.Contains(text, []byte("https://nest.example/incidents/inc_1")) || !bytes.Contains(text, []byte("cart is {{ slow }}")) {
		t.Errorf("text %q, %v", text, err)
	}

	s.fail, s.secure = "451 try later", false
	if a := send(); a.outcome != retry || !a.maybe || !strings.Contains(a.err, "451") {
		t.Errorf("of 451: %+v", a)
	}
	s.fail, s.secure = "", false
	c.smtpCA = ""
	if a := send(); a.outcome != retry || a.maybe || !strings.Contains(a.err, "certificate") {
		t.Errorf("of a certificate that nobody vouches for: %+v", a)
	}
	s.silent = true
	c.timeout = 200 * time.Millisecond
	if a := send(); a.outcome != retry || a.err != "no answer in time" {
		t.Errorf("of silence: %+v", a)
	}
}
