package notify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify/webhook"
	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/common/model"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// note is one notification on its way: a message in the shape crowsnest/v1.
type note struct {
	id   string
	typ  string
	body []byte
}

func (n note) message() (incident.Message, error) {
	var m incident.Message
	if err := json.Unmarshal(n.body, &m); err != nil {
		return m, fmt.Errorf("read the message: %w", err)
	}
	return m, nil
}

// render gives the body of a webhook. What a template fails at is the fault; a
// plain text is sent then, since being told badly beats not being told.
func (n note) render(spec *TargetSpec) (body []byte, contentType, fault string) {
	if spec.Format == FormatV1 || spec.Format == "" {
		return n.body, contentJSON, ""
	}
	m, err := n.message()
	if err == nil {
		switch spec.Format {
		case FormatAlertmanager:
			body, err = alertmanagerBody(m)
		case FormatTencent:
			body, err = tencentBody(m, spec.zone())
		case FormatTemplate:
			return n.templated(m, spec)
		}
	}
	if err != nil {
		return n.body, contentJSON, fmt.Sprintf("format %s: %v; crowsnest/v1 was sent", spec.Format, err)
	}
	return body, contentJSON, ""
}

func (n note) templated(m incident.Message, spec *TargetSpec) (body []byte, contentType, fault string) {
	t, err := parseBody(spec.Template)
	if err == nil {
		if body, err = t.execute(n.body, spec.MaxBytes); err == nil {
			return body, spec.Template.ContentType, ""
		}
	}
	fault = fmt.Sprintf("template: %v; a plain text was sent", err)
	title, text := words(m, spec.zone())
	text = clip(title+"\n"+text, spec.MaxBytes/2)
	if !strings.HasPrefix(spec.Template.ContentType, contentJSON) {
		return []byte(text), spec.Template.ContentType, fault
	}
	body, _ = json.Marshal(map[string]string{"text": text}) // strings always can be
	return body, contentJSON, fault
}

// zone is in which times are written for people.
func (s *TargetSpec) zone() *time.Location {
	if s.Timezone != "" {
		if l, err := loadZone(s.Timezone); err == nil {
			return l
		}
	}
	return time.UTC
}

// am gives Alertmanager's templates. They are read once: they are constant.
var am = sync.OnceValues(func() (*template.Template, error) {
	t, err := template.FromGlobs(nil)
	if err == nil {
		t.ExternalURL = &url.URL{}
	}
	return t, err
})

// status of the thread as Alertmanager's world has it. A test or a heartbeat
// rings there as a firing of the least severity: a resolve would be dropped.
func firing(m incident.Message) bool {
	return m.Incident.State != "resolved" || m.Type == incident.Test || m.Type == heartbeatType
}

// labelsOf gives an alert's flat labels, as Alertmanager's world has them.
func labelsOf(m incident.Message, a incident.MessageAlert) model.LabelSet {
	out := model.LabelSet{}
	set := func(name, value string) {
		if value != "" {
			out[model.LabelName(name)] = model.LabelValue(value)
		}
	}
	for k, v := range m.Incident.Labels {
		set(strings.NewReplacer("/", "_", ".", "_", "-", "_").Replace(k), v)
	}
	for k, v := range a.Dimensions {
		set(k, v)
	}
	o := a.Object
	for k, v := range map[string]string{
		"alertname": a.Policy.Name, "severity": a.Severity, "cluster": o.Cluster, "level": string(o.Level), "namespace": o.Namespace, "workload_type": o.WorkloadType,
		"workload": o.Workload, "pod": o.Pod, "container": o.Container, "node": o.Node,
	} {
		set(k, v)
	}
	return out
}

// amAlerts gives the alerts of a message; a message without any is one itself.
func amAlerts(m incident.Message) []*alert.Alert {
	var out []*alert.Alert
	for _, a := range m.Alerts {
		notes := model.LabelSet{"explanation": model.LabelValue(a.Explanation), "incident": model.LabelValue(m.Incident.URL)}
		for k, v := range a.Annotations {
			notes[model.LabelName(k)] = model.LabelValue(v)
		}
		if notes["summary"] == "" {
			notes["summary"] = model.LabelValue(m.Incident.Title)
		}
		one := &alert.Alert{Alert: model.Alert{Labels: labelsOf(m, a), Annotations: notes, StartsAt: time.Time(a.StartedAt), GeneratorURL: a.Policy.URL}}
		if a.EndedAt != nil {
			one.EndsAt = time.Time(*a.EndedAt)
		}
		out = append(out, one)
	}
	if len(out) == 0 {
		one := &alert.Alert{Alert: model.Alert{
			Labels:      model.LabelSet{"alertname": model.LabelValue("crowsnest " + string(m.Type)), "severity": model.LabelValue(m.Incident.Severity)},
			Annotations: model.LabelSet{"summary": model.LabelValue(m.Incident.Title)}, StartsAt: time.Time(m.Incident.StartedAt), GeneratorURL: m.Incident.URL,
		}}
		if !firing(m) {
			one.EndsAt = time.Time(m.Timestamp)
		}
		out = append(out, one)
	}
	return out
}

// alertmanagerBody is Alertmanager's webhook body, version 4.
func alertmanagerBody(m incident.Message) ([]byte, error) {
	t, err := am()
	if err != nil {
		return nil, err
	}
	group := model.LabelSet{"incident": model.LabelValue(m.Incident.ID)}
	data := t.Data("crowsnest", group, nil, string(m.Type), amAlerts(m)...)
	data.ExternalURL = m.Incident.URL
	data.Status = "resolved"
	if firing(m) {
		data.Status = "firing"
	}
	return json.Marshal(webhook.Message{Data: data, Version: "4", GroupKey: "{}:{incident=" + strconv.Quote(m.Incident.ID) + "}", TruncatedAlerts: uint64(m.Truncated.Alerts)})
}

// tencentTime is how the cloud's callback writes times, in the receiver's zone.
const tencentTime = time.DateTime

// tencentBody is the callback of Tencent Cloud's alarms. It holds one object;
// how many alerts there are is in our own part of it.
func tencentBody(m incident.Message, zone *time.Location) ([]byte, error) {
	type conditions struct {
		MetricName     string `json:"metricName"`
		MetricShowName string `json:"metricShowName"`
		CalcType       string `json:"calcType"`
		CalcValue      string `json:"calcValue"`
		CalcUnit       string `json:"calcUnit"`
		CurrentValue   string `json:"currentValue"`
		Unit           string `json:"unit"`
		Period         string `json:"period"`
		PeriodNum      string `json:"periodNum"`
		NotifyType     string `json:"alarmNotifyType"`
		NotifyPeriod   int    `json:"alarmNotifyPeriod"`
	}
	dimensions := map[string]string{}
	var c conditions
	var policyName, typ string
	began := time.Time(m.Incident.StartedAt)
	if worst := worstOf(m.Alerts); worst != nil {
		o := worst.Object
		began, policyName, typ = time.Time(worst.StartedAt), worst.Policy.Name, string(o.Level)
		for k, v := range map[string]string{
			"tke_cluster_instance_id": o.Cluster, "namespace": o.Namespace, "workload_kind": o.WorkloadType, "workload_name": o.Workload,
			"pod_name": o.Pod, "container_name": o.Container, "node": o.Node,
		} {
			if v != "" {
				dimensions[k] = v
			}
		}
		maps.Copy(dimensions, worst.Dimensions)
		dimensions["objId"] = firstOf(o.Container, o.Pod, o.Workload, o.Node, o.Namespace, o.Cluster)
		if len(worst.Conditions) > 0 {
			first := worst.Conditions[0]
			c = conditions{
				MetricName: first.Metric, MetricShowName: first.Metric, CalcType: first.Op, CalcValue: strconv.FormatFloat(first.Threshold, 'f', -1, 64), CalcUnit: first.Unit,
				Unit: first.Unit, PeriodNum: strconv.Itoa(first.Of), NotifyType: "continuousAlarm",
			}
			if d, err := model.ParseDuration(first.Period); err == nil {
				c.Period = strconv.Itoa(int(time.Duration(d).Seconds()))
			}
			if first.Value != nil {
				c.CurrentValue = strconv.FormatFloat(*first.Value, 'f', -1, 64)
			}
			if about, ok := catalogue.Get(first.Metric); ok {
				c.MetricShowName = about.Title
			}
		}
	}
	status, recovered, kind := "1", "", "metric"
	end := time.Time(m.Timestamp)
	if !firing(m) {
		status = "0"
		if m.Incident.EndedAt != nil {
			end = time.Time(*m.Incident.EndedAt)
		}
		recovered = end.In(zone).Format(tencentTime)
	}
	if typ == "event" || typ == "log" {
		kind = "event"
	}
	return json.Marshal(map[string]any{
		"sessionId": m.Incident.ID, "alarmStatus": status, "alarmType": kind,
		"alarmObjInfo": map[string]any{"region": "", "namespace": "qce/tke2", "appId": "", "uin": "", "dimensions": dimensions},
		"alarmPolicyInfo": map[string]any{
			"policyId": policyName, "policyType": "k8s_" + typ, "policyName": firstOf(policyName, m.Incident.Title), "policyTypeCName": "Kubernetes " + typ, "conditions": c,
		},
		"firstOccurTime": began.In(zone).Format(tencentTime), "durationTime": int(max(0, end.Sub(began)).Seconds()), "recoverTime": recovered,
		"crowsnest": map[string]any{"id": m.ID, "type": m.Type, "severity": m.Incident.Severity, "title": m.Incident.Title, "url": m.Incident.URL, "alerts": len(m.Alerts) + m.Truncated.Alerts},
	})
}

// worstOf gives the most severe alert, firing ones first.
func worstOf(alerts []incident.MessageAlert) *incident.MessageAlert {
	if len(alerts) == 0 {
		return nil
	}
	rank := func(a incident.MessageAlert) int {
		r := catalogue.Severity(a.Severity).Rank()
		if a.State == "firing" {
			r += 10
		}
		return r
	}
	worst := slices.MaxFunc(alerts, func(a, b incident.MessageAlert) int { return rank(a) - rank(b) })
	return &worst
}

func firstOf(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

// maxWordAlerts is how many alerts are written out for people.
const maxWordAlerts = 10

// words says a message to people: a title of one line, and lines below it.
func words(m incident.Message, zone *time.Location) (title, text string) {
	i := m.Incident
	mark := strings.ToUpper(i.Severity)
	switch m.Type {
	case incident.Resolved:
		mark = "RESOLVED"
	case incident.Severity:
		if i.PreviousSeverity != nil {
			mark += ", was " + *i.PreviousSeverity
		}
	case incident.Firing, incident.Updated:
	case "incident.reminder":
		mark += ", still open"
	case "incident.escalated":
		mark += ", escalated"
	case "incident.acknowledged":
		mark = "ACKNOWLEDGED"
		if i.AcknowledgedBy != nil {
			mark += " by " + *i.AcknowledgedBy
		}
	default:
		mark = strings.ToUpper(string(m.Type))
	}
	title = "[" + mark + "] " + printable([]byte(i.Title), 200)
	var out strings.Builder
	line := func(format string, args ...any) {
		out.WriteString(printable(fmt.Appendf(nil, format, args...), 500))
		out.WriteByte('\n')
	}
	const clock = "2006-01-02 15:04:05 MST"
	if i.Cluster.ID != "" {
		line("Cluster %s, since %s", firstOf(i.Cluster.Name, i.Cluster.ID), time.Time(i.StartedAt).In(zone).Format(clock))
	}
	if i.EndedAt != nil && m.Type == incident.Resolved {
		why := ""
		if i.Cause != nil {
			why = ": " + incident.CauseWords(evaluate.Cause(*i.Cause))
		}
		line("Ended %s%s", time.Time(*i.EndedAt).In(zone).Format(clock), why)
	}
	for n, a := range m.Alerts {
		if n == maxWordAlerts {
			break
		}
		o := a.Object
		object := firstOf(o.Pod, o.Workload, o.Node, o.Namespace, o.Cluster)
		if o.Container != "" && o.Pod != "" {
			object = o.Pod + "/" + o.Container
		}
		for _, k := range slices.Sorted(maps.Keys(a.Dimensions)) {
			object += " " + k + "=" + a.Dimensions[k]
		}
		state := a.Severity
		if a.State != "firing" {
			state = "ended"
		}
		line("- %s (%s, %s): %s", object, a.Policy.Name, state, firstOf(a.Annotations["summary"], a.Explanation))
		if link := a.Annotations["runbook_url"]; link != "" {
			line("  %s", link)
		}
	}
	if more := len(m.Alerts) - maxWordAlerts + m.Truncated.Alerts; more > 0 && len(m.Alerts) >= maxWordAlerts {
		line("- and %d more", more)
	}
	if i.URL != "" {
		line("%s", i.URL)
	}
	return title, strings.TrimSuffix(out.String(), "\n")
}

// clip shortens a text to a number of bytes, at a line's end where it can.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	s = strings.ToValidUTF8(s[:max(0, most-len("…"))], "")
	if i := strings.LastIndexByte(s, '\n'); i > most/2 {
		s = s[:i+1]
	}
	return s + "…"
}

// rename gives a message another id: a copy is another notification.
func rename(message []byte, from, to string) []byte {
	old, _ := json.Marshal(from) // strings always can be
	id, _ := json.Marshal(to)
	return bytes.Replace(message, append([]byte(`"id":`), old...), append([]byte(`"id":`), id...), 1)
}
