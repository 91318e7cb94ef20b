package exchange

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// TKEStackOptions of an import.
type TKEStackOptions struct {
	Cluster  string // that the policies are for; empty: the one they name, else all
	Severity string // of every policy, as TKEStack has none; default warning
}

// tkePolicy is a policy as TKEStack's API takes and gives it.
type tkePolicy struct {
	ClusterInstanceID   string `json:"ClusterInstanceId"`
	Namespace           string
	WorkloadType        string
	AlarmPolicySettings struct {
		AlarmPolicyName        string
		AlarmPolicyDescription string
		AlarmPolicyType        string
		StatisticsPeriod       int64 `json:"statisticsPeriod"` // seconds
		AlarmMetrics           []tkeMetric
		AlarmObjects           string
		AlarmObjectsType       string
	}
	NotifySettings struct {
		ReceiverGroups []string
		Receivers      []string
		NotifyWay      []struct{ ChannelName, TemplateName string }
	}
	ShieldSettings struct{ EnableShield bool }
}

type tkeMetric struct {
	Measurement, MetricName, MetricDisplayName, Unit string
	Evaluator                                        struct{ Type, Value string }
	ContinuePeriod                                   int
}

// tkeObject is a notification object.
type tkeObject struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Spec     struct {
		DisplayName string `json:"displayName"`
		Username    string `json:"username"`
		Webhook     *struct {
			URL     string            `json:"url"`
			Headers map[string]string `json:"headers"`
		} `json:"webhook"`
		SMTP *struct {
			Host     string `json:"smtpHost"`
			Port     int    `json:"smtpPort"`
			TLS      bool   `json:"tls"`
			Email    string `json:"email"`
			Password string `json:"password"`
		} `json:"smtp"`
		SMS        json.RawMessage   `json:"tencentCloudSMS"`
		WeChat     json.RawMessage   `json:"wechat"`
		Identities map[string]string `json:"identities"`
		Receivers  []string          `json:"receivers"`
	}
}

// tkeMetrics are names that TKEStack has otherwise than the catalogue.
var tkeMetrics = map[string]struct {
	name      string
	component string // that the series is of
	note      string
}{
	"k8s_node_mem_usage_no_cache":            {"k8s_node_mem_usage", "", "the catalogue's node memory is without what the kernel would give up"},
	"k8s_component_apiserver_ready":          {"k8s_component_ready", "apiserver", ""},
	"k8s_component_etcd_ready":               {"k8s_component_ready", "etcd", ""},
	"k8s_component_scheduler_ready":          {"k8s_component_ready", "scheduler", ""},
	"k8s_component_controller_manager_ready": {"k8s_component_ready", "controller_manager", ""},
}

// TKEStack reads policies of TKEStack and the channels, receivers and receiver
// groups that they tell: as the API gives or takes them, single or in lists.
func TKEStack(raw []byte, o TKEStackOptions) (Result, error) {
	if o.Severity == "" {
		o.Severity = string(catalogue.Warning)
	}
	docs, err := documents(raw)
	if err != nil {
		return Result{}, err
	}
	in := tkeImport{o: o, names: map[string]names{}, objects: map[string]map[string]tkeObject{}, targets: map[[2]string][]string{}}
	for i, doc := range docs {
		if err := in.read(doc); err != nil {
			return Result{}, fmt.Errorf("document %d: %w", i+1, err)
		}
	}
	if len(in.policies) == 0 && len(in.objects) == 0 {
		return Result{}, errors.New("holds neither policies (AlarmPolicySettings) nor objects of notify.tkestack.io")
	}
	for _, p := range in.policies {
		in.policy(p)
	}
	return in.out, nil
}

type tkeImport struct {
	o        TKEStackOptions
	policies []tkePolicy
	objects  map[string]map[string]tkeObject // by kind and name
	targets  map[[2]string][]string          // names of ours, by channel and receiver group
	names    map[string]names                // by kind
	out      Result
}

func (in *tkeImport) name(kind, text, otherwise string) string {
	if in.names[kind] == nil {
		in.names[kind] = names{}
	}
	return in.names[kind].slug(text, otherwise)
}

// read finds what a document holds.
func (in *tkeImport) read(doc json.RawMessage) error {
	var list []json.RawMessage
	if json.Unmarshal(doc, &list) == nil {
		for _, one := range list {
			if err := in.read(one); err != nil {
				return err
			}
		}
		return nil
	}
	var shape struct {
		Kind                string
		Items               []json.RawMessage `json:"items"`
		Data                json.RawMessage   `json:"data"`
		AlarmPolicies       []json.RawMessage `json:"alarmPolicies"`
		AlarmPolicySettings json.RawMessage
	}
	if err := json.Unmarshal(doc, &shape); err != nil {
		return err
	}
	for _, inner := range append(append(shape.Items, shape.AlarmPolicies...), shape.Data) {
		if len(inner) == 0 || string(inner) == "null" {
			continue
		}
		if err := in.read(inner); err != nil {
			return err
		}
	}
	switch {
	case shape.AlarmPolicySettings != nil:
		var p tkePolicy
		if err := json.Unmarshal(doc, &p); err != nil {
			return fmt.Errorf("read a policy: %w", err)
		}
		in.policies = append(in.policies, p)
	case shape.Kind != "" && !strings.HasSuffix(shape.Kind, "List"):
		var obj tkeObject
		if err := json.Unmarshal(doc, &obj); err != nil {
			return fmt.Errorf("read a %s: %w", shape.Kind, err)
		}
		switch obj.Kind {
		case "Channel", "Receiver", "ReceiverGroup":
			if in.objects[obj.Kind] == nil {
				in.objects[obj.Kind] = map[string]tkeObject{}
			}
			in.objects[obj.Kind][obj.Metadata.Name] = obj
		case "Template":
			in.out.note("template "+strconv.Quote(obj.Metadata.Name), "its text is not carried over: messages say what crowsnest says; a webhook's own body is a target's template")
		default:
			in.out.note(obj.Kind+" "+strconv.Quote(obj.Metadata.Name), "objects of this kind are not carried over")
		}
	}
	return nil
}

func (in *tkeImport) policy(p tkePolicy) {
	s := p.AlarmPolicySettings
	where := "policy " + strconv.Quote(s.AlarmPolicyName)
	level := map[string]catalogue.Level{"cluster": catalogue.Cluster, "node": catalogue.Node, "pod": catalogue.Pod}[s.AlarmPolicyType]
	if level == "" {
		in.out.note(where, "type %q is not carried over: it must be cluster, node or pod", s.AlarmPolicyType)
		return
	}
	if s.StatisticsPeriod <= 0 {
		s.StatisticsPeriod = 60
		in.out.note(where, "statisticsPeriod is missing; 1m is taken")
	}
	if p.ShieldSettings.EnableShield {
		in.out.note(where, "its shield settings are not carried over, as TKEStack never kept their times; write a maintenance window")
	}
	targets := in.tell(where, p)
	for _, m := range s.AlarmMetrics {
		name := s.AlarmPolicyName
		if len(s.AlarmMetrics) > 1 {
			name += " " + strings.TrimPrefix(m.MetricName, "k8s_")
		}
		cond, metric, ok := in.condition(where, s.StatisticsPeriod, m)
		if !ok {
			continue
		}
		spec := map[string]any{"level": string(metric.Level), "conditions": []any{cond}}
		if metric.Level != level {
			in.out.note(where, "%s is of level %s here", metric.Name, metric.Level)
		}
		if cluster := firstOf(in.o.Cluster, p.ClusterInstanceID); cluster != "" {
			spec["clusters"] = map[string]any{"names": []string{cluster}}
		}
		if component := tkeMetrics[m.MetricName].component; component != "" {
			spec["objects"] = map[string]any{"names": []string{component}}
		} else if objects := in.selected(where, p); len(objects) > 0 {
			spec["objects"] = objects
		}
		annotations := map[string]string{"summary": firstOf(m.MetricDisplayName, metric.Title)}
		if s.AlarmPolicyDescription != "" {
			annotations["description"] = s.AlarmPolicyDescription
		}
		for k, v := range annotations { // ours are templates
			annotations[k] = strings.ReplaceAll(v, "{{", "{ {")
		}
		spec["annotations"] = annotations
		if len(targets) > 0 {
			spec["notify"] = map[string]any{"targets": targets, "repeat": map[string]any{"every": "20m"}}
		}
		in.out.add(policy.Kind, in.name(policy.Kind, name, "tkestack"), map[string]string{"tkestack_policy": labelValue(s.AlarmPolicyName)}, spec)
	}
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// labelValue bounds a text to what a label takes.
func labelValue(s string) string { return s[:min(len(s), 63)] }

func (in *tkeImport) condition(where string, period int64, m tkeMetric) (map[string]any, catalogue.Metric, bool) {
	name := m.MetricName
	if other, ok := tkeMetrics[name]; ok {
		name = other.name
		if other.note != "" {
			in.out.note(where, "%s is %s here: %s", m.MetricName, other.name, other.note)
		}
	}
	metric, ok := catalogue.Get(name)
	if !ok {
		hint := ""
		if near := catalogue.Nearest(name); near != "" {
			hint = "; the nearest is " + near
		}
		in.out.note(where, "metric %s is not carried over: the catalogue has none of this name%s", m.MetricName, hint)
		return nil, metric, false
	}
	op := map[string]string{"gt": ">", "lt": "<", "eq": "=="}[m.Evaluator.Type]
	if op == "" {
		in.out.note(where, "metric %s is not carried over: comparison %q must be gt, lt or eq", m.MetricName, m.Evaluator.Type)
		return nil, metric, false
	}
	var value float64
	switch m.Evaluator.Value {
	case "true":
		op, value = "==", 1
	case "false":
		op, value = "==", 0
	default:
		v, err := strconv.ParseFloat(m.Evaluator.Value, 64)
		if err != nil {
			in.out.note(where, "metric %s is not carried over: its threshold %q is no number", m.MetricName, m.Evaluator.Value)
			return nil, metric, false
		}
		value = v
	}
	// TKEStack compares single values, and promises means. A state is bad when it
	// was so all the period; an event is counted.
	statistic := catalogue.Avg
	switch {
	case metric.Kind == catalogue.Counter:
		statistic = catalogue.Increase
	case op == "==" && value == 0:
		statistic = catalogue.Max
	case op == "==":
		statistic = catalogue.Min
	}
	need := max(m.ContinuePeriod, 1)
	return map[string]any{
		"metric": metric.Name, "statistic": string(statistic), "period": policy.Duration(time.Duration(period) * time.Second).String(), "op": op,
		"thresholds": map[string]float64{in.o.Severity: value}, "need": need, "of": need,
	}, metric, true
}

func (in *tkeImport) selected(where string, p tkePolicy) map[string]any {
	if p.AlarmPolicySettings.AlarmPolicyType != "pod" {
		if p.AlarmPolicySettings.AlarmObjectsType == "part" {
			in.out.note(where, "its objects %q are left out, as TKEStack does for this type", p.AlarmPolicySettings.AlarmObjects)
		}
		return nil
	}
	out := map[string]any{}
	if p.Namespace != "" {
		out["namespaces"] = []string{p.Namespace}
	}
	kind := strings.ToLower(p.WorkloadType)
	var workloads []string
	if p.AlarmPolicySettings.AlarmObjectsType == "part" {
		for _, name := range strings.Split(p.AlarmPolicySettings.AlarmObjects, ",") {
			if name = strings.TrimSpace(name); name != "" {
				workloads = append(workloads, firstOf(kind, "*")+"/"+name)
			}
		}
		if len(workloads) == 0 {
			in.out.note(where, "it is about some objects and names none; it is about all here")
		}
	}
	if len(workloads) == 0 && kind != "" {
		workloads = []string{kind + "/*"}
	}
	if len(workloads) > 0 {
		out["workloads"] = workloads
	}
	return out
}

// tell gives the names of targets that a policy tells, and makes those that are
// missing.
func (in *tkeImport) tell(where string, p tkePolicy) []string {
	var out []string
	if len(p.NotifySettings.Receivers) > 0 {
		in.out.note(where, "single receivers (%s) are not carried over; only receiver groups are", strings.Join(p.NotifySettings.Receivers, ", "))
	}
	for _, way := range p.NotifySettings.NotifyWay {
		channel, known := in.objects["Channel"][way.ChannelName]
		if !known {
			in.out.note(where, "channel %q is not in the input, so that nobody is told by it: give the channels, receivers and receiver groups along, or make a target", way.ChannelName)
			continue
		}
		for _, group := range p.NotifySettings.ReceiverGroups {
			if group == "" { // as TKEStack reads back an empty list
				continue
			}
			key := [2]string{way.ChannelName, group}
			made, done := in.targets[key]
			if !done {
				made = in.target(channel, group)
				in.targets[key] = made
			}
			for _, name := range made {
				if !slices.Contains(out, name) {
					out = append(out, name)
				}
			}
		}
	}
	if len(out) == 0 {
		in.out.note(where, "it names no target; the routes decide who is told")
	}
	return out
}

// target makes what one channel is to a receiver group.
func (in *tkeImport) target(c tkeObject, group string) []string {
	where := "channel " + strconv.Quote(c.Metadata.Name)
	g, known := in.objects["ReceiverGroup"][group]
	name := firstOf(c.Spec.DisplayName, c.Metadata.Name) + " " + firstOf(g.Spec.DisplayName, group)
	switch {
	case c.Spec.Webhook != nil:
		spec := map[string]any{"type": "webhook", "url": c.Spec.Webhook.URL}
		if len(c.Spec.Webhook.Headers) > 0 {
			spec["headers"] = c.Spec.Webhook.Headers
			in.out.note(where, "its headers are sent; TKEStack ignored them")
		}
		in.out.note(where, "its body is crowsnest/v1 and not TKEStack's {receivers, content}; format: template can write any other")
		name = in.name("Target", name, "tkestack")
		in.out.add("Target", name, nil, spec)
	case c.Spec.SMTP != nil:
		if !known {
			in.out.note(where, "receiver group %q is not in the input, so that nobody is mailed", group)
			return nil
		}
		var to []string
		for _, receiver := range g.Spec.Receivers {
			if mail := in.objects["Receiver"][receiver].Spec.Identities["email"]; mail != "" {
				to = append(to, mail)
				continue
			}
			in.out.note("receiver group "+strconv.Quote(group), "receiver %q has no address of mail, or is not in the input", receiver)
		}
		if len(to) == 0 {
			return nil
		}
		s := c.Spec.SMTP
		mail := map[string]any{"to": to, "from": s.Email, "host": s.Host, "username": s.Email, "password": s.Password, "tls": "starttls"}
		if s.Port != 0 {
			mail["port"] = s.Port
		}
		if s.TLS && s.Port == 465 {
			mail["tls"] = "implicit"
		}
		if !s.TLS {
			in.out.note(where, "it sends without TLS; a password is sent by STARTTLS here")
		}
		name = in.name("Target", name, "tkestack")
		in.out.add("Target", name, nil, map[string]any{"type": "email", "email": mail})
	case c.Spec.SMS != nil:
		in.out.note(where, "text messages are not carried over: there is no such channel")
		return nil
	case c.Spec.WeChat != nil:
		in.out.note(where, "messages of a public account are not carried over; WeChat Work is type wechat, its group robot type wecom")
		return nil
	default:
		in.out.note(where, "it has none of webhook, smtp, tencentCloudSMS and wechat")
		return nil
	}
	return []string{name}
}
