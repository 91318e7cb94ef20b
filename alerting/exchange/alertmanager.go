package exchange

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	amconfig "github.com/prometheus/alertmanager/config"
	amcommon "github.com/prometheus/alertmanager/config/common"
	amlabels "github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/alertmanager/timeinterval"
	commoncfg "github.com/prometheus/common/config"
	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Alertmanager reads a configuration of Alertmanager's, by its own parser:
// receivers become targets, routes routes, inhibit rules inhibitions, and times
// in which a route is muted maintenance windows.
func Alertmanager(raw []byte) (Result, error) {
	c, err := amconfig.Load(string(raw))
	if err != nil {
		return Result{}, fmt.Errorf("read Alertmanager's configuration: %w", err)
	}
	var given amGiven
	if err := yaml.Unmarshal(raw, &given); err != nil {
		return Result{}, fmt.Errorf("read Alertmanager's configuration: %w", err)
	}
	in := amImport{config: c, given: given, targets: map[string][]string{}, names: map[string]names{}, intervals: map[string][]timeinterval.TimeInterval{}}
	for _, t := range c.MuteTimeIntervals {
		in.intervals[t.Name] = t.TimeIntervals
	}
	for _, t := range c.TimeIntervals {
		in.intervals[t.Name] = t.TimeIntervals
	}
	for i, r := range c.Receivers {
		in.receiver(i, r)
	}
	in.root()
	for i, r := range c.InhibitRules {
		in.inhibit(i, r)
	}
	in.rest()
	return in.out, nil
}

// amGiven is which keys somebody wrote: what the parser fills in by default
// needs no note.
type amGiven struct {
	Global    map[string]any   `json:"global"`
	Receivers []map[string]any `json:"receivers"`
	Templates []any            `json:"templates"`
}

type amImport struct {
	config    *amconfig.Config
	given     amGiven
	targets   map[string][]string // names of ours, by receiver
	names     map[string]names    // by kind
	intervals map[string][]timeinterval.TimeInterval
	windows   map[string]bool
	order     int
	out       Result
}

func (in *amImport) name(kind, text, otherwise string) string {
	if in.names[kind] == nil {
		in.names[kind] = names{}
	}
	return in.names[kind].slug(text, otherwise)
}

// amTarget collects what a receiver's entry becomes.
type amTarget struct {
	in    *amImport
	where string
	given map[string]any // the entry as it was written
	taken map[string]bool
	spec  map[string]any
}

// take says that keys of the entry are carried over.
func (t *amTarget) take(keys ...string) {
	for _, k := range keys {
		t.taken[k] = true
	}
}

func (t *amTarget) note(format string, args ...any) { t.in.out.note(t.where, format, args...) }

// secret takes a secret that is in the configuration itself. One in a file is
// named: the import has no such file.
func (t *amTarget) secret(key string, value commoncfg.Secret) string {
	t.take(key, key+"_file")
	if value == "" {
		t.note("%s is in a file, which is not read: put it in by hand", key)
		return "FILL-IN"
	}
	return string(value)
}

func (t *amTarget) address(key string, u *amcommon.SecretURL) string {
	t.take(key, key+"_file")
	if u == nil || u.URL == nil {
		t.note("%s is in a file, which is not read: put it in by hand", key)
		return "https://fill-in.invalid/"
	}
	return u.URL.String()
}

// receiver makes a target of each of a receiver's entries.
func (in *amImport) receiver(i int, r amconfig.Receiver) {
	given := map[string]any{}
	if i < len(in.given.Receivers) {
		given = in.given.Receivers[i]
	}
	kinds := slices.Sorted(maps.Keys(given))
	for _, kind := range kinds {
		entries, ok := given[kind].([]any)
		if !ok {
			continue
		}
		for j, entry := range entries {
			keys, _ := entry.(map[string]any)
			t := &amTarget{in: in, where: fmt.Sprintf("receiver %q, %s[%d]", r.Name, kind, j), given: keys, taken: map[string]bool{}}
			if !t.fill(kind, j, r) {
				t.note("this channel is not carried over; a webhook can reach it")
				continue
			}
			var left []string
			for _, k := range slices.Sorted(maps.Keys(keys)) {
				switch {
				case t.taken[k]:
				case k == "send_resolved":
					if keys[k] == false {
						t.note("send_resolved: false is not carried over: the end of what was told is told")
					}
				default:
					left = append(left, k)
				}
			}
			if len(left) > 0 {
				t.note("not carried over: %s", strings.Join(left, ", "))
			}
			name := r.Name
			if len(entries)+len(kinds) > 3 { // more than a name and one entry
				name += " " + strings.TrimSuffix(kind, "_configs")
			}
			name = in.name(meta.KindTarget, name, "receiver")
			in.targets[r.Name] = append(in.targets[r.Name], name)
			in.out.add(meta.KindTarget, name, nil, t.spec)
		}
	}
	if len(in.targets[r.Name]) == 0 {
		in.out.note(fmt.Sprintf("receiver %q", r.Name), "it has no target here: routes to it say nobody")
	}
}

// fill makes the spec; false when there is no such channel.
func (t *amTarget) fill(kind string, i int, r amconfig.Receiver) bool {
	switch kind {
	case "webhook_configs":
		c := r.WebhookConfigs[i]
		t.take("url", "url_file")
		address := string(c.URL)
		if address == "" {
			t.note("url is in a file, which is not read: put it in by hand")
			address = "https://fill-in.invalid/"
		}
		if strings.Contains(address, "{{") {
			t.note("its url is a template, which is not carried over as one: put the address in by hand")
		}
		t.spec = map[string]any{"type": "webhook", "url": address, "format": "alertmanager/v4"}
		t.headers(c.HTTPConfig)
		if c.Payload != nil {
			t.take("payload")
			t.note("payload is not carried over: write it as a target of format: template")
		}
	case "email_configs":
		c := r.EmailConfigs[i]
		t.take("to", "from", "smarthost", "auth_username", "auth_identity", "require_tls", "force_implicit_tls", "hello")
		mail := map[string]any{"to": strings.FieldsFunc(c.To, func(c rune) bool { return c == ',' || c == ' ' }), "from": c.From, "host": c.Smarthost.Host, "tls": "starttls"}
		if port, err := strconv.Atoi(c.Smarthost.Port); err == nil {
			mail["port"] = port
		}
		if c.AuthUsername != "" {
			mail["username"] = c.AuthUsername
			mail["password"] = t.secret("auth_password", c.AuthPassword)
		}
		switch {
		case c.Smarthost.Port == "465" || c.ForceImplicitTLS != nil && *c.ForceImplicitTLS:
			mail["tls"] = "implicit"
		case c.RequireTLS != nil && !*c.RequireTLS:
			if mail["tls"] = "none"; c.AuthUsername != "" {
				mail["tls"] = "starttls"
				t.note("require_tls: false is not carried over, as a password is never sent without TLS")
			}
		}
		t.spec = map[string]any{"type": "email", "email": mail}
	case "slack_configs":
		c := r.SlackConfigs[i]
		t.spec = map[string]any{"type": "slack"}
		t.take("channel")
		slack := map[string]any{}
		if c.Channel != "" {
			slack["channel"] = c.Channel
		}
		if c.AppToken != "" || c.AppTokenFile != "" {
			slack["token"] = t.secret("app_token", c.AppToken)
		} else {
			t.spec["url"] = t.address("api_url", c.APIURL)
		}
		if len(slack) > 0 {
			t.spec["slack"] = slack
		}
	case "pagerduty_configs":
		c := r.PagerdutyConfigs[i]
		if c.ServiceKey != "" || c.ServiceKeyFile != "" {
			t.take("service_key", "service_key_file")
			t.note("service_key is of Events API v1; make an integration of v2 and put its routingKey in")
			t.spec = map[string]any{"type": "pagerduty", "pagerduty": map[string]any{"routingKey": "FILL-IN"}}
			break
		}
		t.spec = map[string]any{"type": "pagerduty", "pagerduty": map[string]any{"routingKey": t.secret("routing_key", c.RoutingKey)}}
	case "opsgenie_configs":
		c := r.OpsGenieConfigs[i]
		t.take("responders")
		var teams []string
		for _, who := range c.Responders {
			if who.Type == "team" && who.Name != "" {
				teams = append(teams, who.Name)
				continue
			}
			t.note("responder %s is not carried over: only teams by name are", firstOf(who.Name, who.Username, who.ID))
		}
		own := map[string]any{"apiKey": t.secret("api_key", c.APIKey)}
		if len(teams) > 0 {
			own["teams"] = teams
		}
		t.spec = map[string]any{"type": "opsgenie", "opsgenie": own}
	case "telegram_configs":
		c := r.TelegramConfigs[i]
		t.take("chat_id", "message_thread_id")
		bot := t.secret("bot_token", c.BotToken)
		if c.BotToken == "" {
			bot = "123456:" + bot + "xxxxxxxxxxxxxxxxxxxxxxxx" // the form of one
		}
		own := map[string]any{"botToken": bot, "chatId": c.ChatID}
		if c.MessageThreadID != 0 {
			own["threadId"] = c.MessageThreadID
		}
		t.spec = map[string]any{"type": "telegram", "telegram": own}
	case "pushover_configs":
		c := r.PushoverConfigs[i]
		t.spec = map[string]any{"type": "pushover", "pushover": map[string]any{"userKey": t.secret("user_key", c.UserKey), "token": t.secret("token", c.Token)}}
	case "wechat_configs":
		c := r.WechatConfigs[i]
		t.take("corp_id", "agent_id", "to_user", "to_party", "to_tag", "message_type")
		t.spec = map[string]any{"type": "wechat", "wechat": map[string]any{
			"corpId": c.CorpID, "agentId": c.AgentID, "apiSecret": t.secret("api_secret", c.APISecret), "toUser": c.ToUser, "toParty": c.ToParty, "toTag": c.ToTag,
		}}
	case "discord_configs":
		t.spec = map[string]any{"type": "discord", "url": t.address("webhook_url", r.DiscordConfigs[i].WebhookURL)}
	case "msteams_configs":
		t.spec = map[string]any{"type": "teams", "url": t.address("webhook_url", r.MSTeamsConfigs[i].WebhookURL)}
		t.note("it is a connector's address, which Teams has ended; make a workflow's")
	case "msteamsv2_configs":
		t.spec = map[string]any{"type": "teams", "url": t.address("webhook_url", r.MSTeamsV2Configs[i].WebhookURL)}
	default:
		return false
	}
	// Another address than the service's own.
	for _, key := range []string{"api_url", "url"} {
		if given, ok := t.given[key].(string); ok && t.spec["url"] == nil && (t.spec["type"] == "opsgenie" || t.spec["type"] == "pagerduty" || t.spec["type"] == "telegram" || t.spec["type"] == "wechat") {
			t.take(key)
			t.spec["url"] = given
		}
	}
	return true
}

// headers carries over how a webhook's receiver is authenticated to.
func (t *amTarget) headers(h *commoncfg.HTTPClientConfig) {
	given, ok := t.given["http_config"].(map[string]any)
	if !ok || h == nil {
		return
	}
	t.take("http_config")
	headers := map[string]string{}
	var left []string
	for _, key := range slices.Sorted(maps.Keys(given)) {
		switch {
		case key == "authorization" && h.Authorization != nil && h.Authorization.Credentials != "":
			headers["Authorization"] = firstOf(h.Authorization.Type, "Bearer") + " " + string(h.Authorization.Credentials)
		case key == "bearer_token" && h.BearerToken != "":
			headers["Authorization"] = "Bearer " + string(h.BearerToken)
		case key == "basic_auth" && h.BasicAuth != nil && h.BasicAuth.Password != "":
			u := url.UserPassword(h.BasicAuth.Username, string(h.BasicAuth.Password))
			headers["Authorization"] = "Basic " + basic(u)
		case key == "http_headers" && h.HTTPHeaders != nil:
			for name, values := range h.HTTPHeaders.Headers {
				for _, v := range values.Values {
					headers[name] = v
				}
				for _, v := range values.Secrets {
					headers[name] = string(v)
				}
				if len(values.Files) > 0 || len(values.Values)+len(values.Secrets) > 1 {
					t.note("header %s is in a file or has several values; put it in by hand", name)
				}
			}
		default:
			left = append(left, "http_config."+key)
		}
	}
	if len(headers) > 0 {
		t.spec["headers"] = headers
	}
	if len(left) > 0 {
		t.note("not carried over: %s", strings.Join(left, ", "))
	}
}

// root walks through the tree of routes: what is deeper is asked first.
func (in *amImport) root() {
	in.windows = map[string]bool{}
	in.children(in.config.Route, nil, in.config.Route.Receiver)
	spec := map[string]any{"default": true}
	if targets := in.targets[in.config.Route.Receiver]; len(targets) > 0 {
		spec["targets"] = targets
	} else {
		spec["nobody"] = true
	}
	in.out.add(meta.KindRoute, in.name(meta.KindRoute, "default", "default"), nil, spec)
	in.settings("the root route", in.config.Route)
}

func (in *amImport) children(r *amconfig.Route, path []string, receiver string) {
	for _, child := range r.Routes {
		in.route(child, path, receiver)
	}
}

// route of a tree, whose receiver is that of its parent where it names none.
func (in *amImport) route(r *amconfig.Route, path []string, receiver string) {
	receiver = firstOf(r.Receiver, receiver)
	own := matchersOf(r.Match, r.MatchRE, r.Matchers)
	where := fmt.Sprintf("route %s", strings.Join(append(slices.Clone(path), own...), ", "))
	path = append(slices.Clone(path), own...)
	in.children(r, path, receiver)
	in.settings(where, r)
	for _, name := range r.MuteTimeIntervals {
		in.mute(where, path, name)
		if len(r.Routes) > 0 {
			in.out.note(where, "mute_time_intervals %q mutes what its own routes match too, which Alertmanager does not", name)
		}
	}
	in.order++
	spec := map[string]any{"order": in.order, "matchers": path}
	if targets := in.targets[receiver]; len(targets) > 0 {
		spec["targets"] = in.calendars(where, r, targets)
	} else {
		spec["nobody"] = true
	}
	if r.Continue {
		spec["continue"] = true
		if len(path) > len(own) {
			in.out.note(where, "it goes on to the routes after it; where none of its siblings matches, its parent's receiver is told too, which Alertmanager does not")
		}
	}
	if len(path) == 0 {
		in.out.note(where, "it matches everything, so that no route after it is asked unless it says continue")
		delete(spec, "matchers")
	}
	in.out.add(meta.KindRoute, in.name(meta.KindRoute, receiver, "route"), nil, spec)
}

// settings names what a route says and ours do not.
func (in *amImport) settings(where string, r *amconfig.Route) {
	var said []string
	if len(r.GroupByStr) > 0 {
		said = append(said, "group_by "+strings.Join(r.GroupByStr, ", "))
	}
	if r.GroupWait != nil {
		said = append(said, "group_wait "+r.GroupWait.String())
	}
	if r.GroupInterval != nil {
		said = append(said, "group_interval "+r.GroupInterval.String())
	}
	if len(said) > 0 {
		in.out.note(where, "%s: how alerts are grouped is said by each policy (spec.group) here", strings.Join(said, ", "))
	}
	if r.RepeatInterval != nil {
		in.out.note(where, "repeat_interval %s: how often is reminded is said by each policy (spec.notify.repeat) here", r.RepeatInterval)
	}
	if len(r.Labels) > 0 {
		in.out.note(where, "labels are not carried over")
	}
}

// calendars gives the targets of a route that is told only in some times: copies
// of them with a calendar.
func (in *amImport) calendars(where string, r *amconfig.Route, targets []string) []string {
	if len(r.ActiveTimeIntervals) == 0 {
		return targets
	}
	var within []map[string]any
	zone := "UTC"
	for _, name := range r.ActiveTimeIntervals {
		for _, t := range in.intervals[name] {
			if len(t.DaysOfMonth)+len(t.Months)+len(t.Years) > 0 {
				in.out.note(where, "active_time_intervals %q: days of the month, months and years are not carried over: a calendar has days of the week", name)
			}
			if t.Location != nil {
				zone = t.Location.String()
			}
			days := weekdaysOf(t.Weekdays, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"})
			for _, span := range spansOf(t.Times) {
				entry := map[string]any{"from": clock(span.StartMinute), "to": clock(span.EndMinute)}
				if len(days) > 0 {
					entry["days"] = days
				}
				within = append(within, entry)
			}
		}
	}
	in.out.note(where, "active_time_intervals %s: outside of them messages wait for the opening here; Alertmanager drops them", strings.Join(r.ActiveTimeIntervals, ", "))
	var out []string
	for _, target := range targets {
		i := slices.IndexFunc(in.out.Documents, func(d Document) bool {
			return d["kind"] == meta.KindTarget && d["metadata"].(map[string]any)["name"] == target
		})
		spec := maps.Clone(in.out.Documents[i]["spec"].(map[string]any))
		spec["calendar"] = map[string]any{"timezone": zone, "within": within}
		name := in.name(meta.KindTarget, target+" "+strings.Join(r.ActiveTimeIntervals, " "), "target")
		in.out.add(meta.KindTarget, name, nil, spec)
		out = append(out, name)
	}
	return out
}

// mute makes maintenance windows of times in which a route is silent.
func (in *amImport) mute(where string, path []string, name string) {
	if len(path) == 0 {
		in.out.note(where, "mute_time_intervals %q is not carried over: a window that mutes everything is refused", name)
		return
	}
	for i, t := range in.intervals[name] {
		if len(t.Years) > 0 {
			in.out.note(where, "mute_time_intervals %q: years are not carried over; the windows come every year", name)
		}
		zone := ""
		if t.Location != nil {
			zone = t.Location.String()
		}
		for _, r := range t.DaysOfMonth {
			if r.Begin > 0 && r.End < -1 {
				in.out.note(where, "mute_time_intervals %q: days %d to %d of the month: a rule cannot leave out the month's last days, the windows go on to its end", name, r.Begin, r.End)
			}
		}
		for _, span := range spansOf(t.Times) {
			spec := map[string]any{
				"matchers": path, "rrule": rruleOf(t, span), "duration": (fmt.Sprintf("%dm", span.EndMinute-span.StartMinute)), "comment": "of Alertmanager's " + name,
			}
			if zone != "" {
				spec["timezone"] = zone
			}
			in.out.add(meta.KindMaintenance, in.name(meta.KindMaintenance, fmt.Sprintf("%s %d", name, i+1), "muted"), nil, spec)
		}
	}
}

// spansOf gives the parts of a day; none means all of it.
func spansOf(times []timeinterval.TimeRange) []timeinterval.TimeRange {
	if len(times) == 0 {
		return []timeinterval.TimeRange{{StartMinute: 0, EndMinute: 24 * 60}}
	}
	return times
}

func clock(minute int) string { return fmt.Sprintf("%02d:%02d", minute/60, minute%60) }

// weekdaysOf gives names of days; none means all of them.
func weekdaysOf(ranges []timeinterval.WeekdayRange, named []string) []string {
	var out []string
	for _, r := range ranges {
		for d := r.Begin; d <= r.End; d++ {
			if !slices.Contains(out, named[d%7]) {
				out = append(out, named[d%7])
			}
		}
	}
	return out
}

func rruleOf(t timeinterval.TimeInterval, span timeinterval.TimeRange) string {
	parts := []string{"FREQ=DAILY"}
	if days := weekdaysOf(t.Weekdays, []string{"SU", "MO", "TU", "WE", "TH", "FR", "SA"}); len(days) > 0 {
		parts = append(parts, "BYDAY="+strings.Join(days, ","))
	}
	if len(t.DaysOfMonth) > 0 {
		var days []string
		for _, r := range t.DaysOfMonth {
			end := r.End
			if r.Begin > 0 && end < 0 { // counted from the month's end
				end = 31
			}
			for d := r.Begin; d <= end; d++ {
				days = append(days, strconv.Itoa(d))
			}
		}
		parts = append(parts, "BYMONTHDAY="+strings.Join(days, ","))
	}
	if len(t.Months) > 0 {
		var months []string
		for _, r := range t.Months {
			for m := r.Begin; m <= r.End; m++ {
				months = append(months, strconv.Itoa(m))
			}
		}
		parts = append(parts, "BYMONTH="+strings.Join(months, ","))
	}
	return strings.Join(append(parts, fmt.Sprintf("BYHOUR=%d;BYMINUTE=%d;BYSECOND=0", span.StartMinute/60, span.StartMinute%60)), ";")
}

func (in *amImport) inhibit(i int, r amcommon.InhibitRule) {
	spec := map[string]any{
		"source": matchersOf(r.SourceMatch, r.SourceMatchRE, r.SourceMatchers), "target": matchersOf(r.TargetMatch, r.TargetMatchRE, r.TargetMatchers),
	}
	if len(r.Equal) > 0 {
		spec["equal"] = r.Equal
	}
	in.out.add(meta.KindInhibition, in.name(meta.KindInhibition, firstOf(r.Name, fmt.Sprintf("alertmanager %d", i+1)), "inhibition"), nil, spec)
}

// matchersOf writes matchers in the one form that ours have.
func matchersOf(equal map[string]string, re amcommon.MatchRegexps, list amcommon.Matchers) []string {
	out := []string{}
	for _, name := range slices.Sorted(maps.Keys(equal)) {
		out = append(out, (&amlabels.Matcher{Type: amlabels.MatchEqual, Name: name, Value: equal[name]}).String())
	}
	for _, name := range slices.Sorted(maps.Keys(re)) {
		pattern := strings.TrimSuffix(strings.TrimPrefix(re[name].String(), "^(?:"), ")$")
		out = append(out, (&amlabels.Matcher{Type: amlabels.MatchRegexp, Name: name, Value: pattern}).String())
	}
	for _, m := range list {
		out = append(out, m.String())
	}
	return out
}

// rest names what is left of the file.
func (in *amImport) rest() {
	if len(in.given.Templates) > 0 {
		in.out.note("templates", "files of templates are not carried over: messages say what crowsnest says")
	}
	if _, ok := in.given.Global["resolve_timeout"]; ok {
		in.out.note("global", "resolve_timeout is not carried over: an alert that is received ends when its sender says so, or at its endsAt")
	}
	if _, ok := in.given.Global["http_config"]; ok {
		in.out.note("global", "http_config is not carried over: targets are reached directly")
	}
}

func basic(u *url.Userinfo) string {
	password, _ := u.Password()
	return base64Of(u.Username() + ":" + password)
}
