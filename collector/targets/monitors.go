package targets

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/util/strutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const monitoringPath = "/apis/monitoring.coreos.com/v1/"

// poll lists the monitors. They change rarely; a list every half minute needs a
// single right and no state of its own.
func (d *Discovery) poll(ctx context.Context) {
	var templates []template
	refused := map[string]int{}
	complete := true
	each(ctx, d, "servicemonitors", refused, &complete, func(m *monitoringv1.ServiceMonitor) {
		add(&templates, refused, "ServiceMonitor "+m.Namespace+"/"+m.Name, len(m.Spec.Endpoints), func(i int) (template, error) { return serviceMonitor(m, i) })
	})
	each(ctx, d, "podmonitors", refused, &complete, func(m *monitoringv1.PodMonitor) {
		add(&templates, refused, "PodMonitor "+m.Namespace+"/"+m.Name, len(m.Spec.PodMetricsEndpoints), func(i int) (template, error) { return podMonitor(m, i) })
	})
	each(ctx, d, "probes", refused, &complete, func(m *monitoringv1.Probe) {
		add(&templates, refused, "Probe "+m.Namespace+"/"+m.Name, 1, func(int) (template, error) { return probe(m) })
	})
	if ctx.Err() != nil {
		return
	}
	d.refuse("monitors", refused)
	if !complete {
		return // what is known stays: an API server that is away ends no target
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.templates = templates
	d.version++
}

// add makes a template of each endpoint; one that is wrong is refused alone.
func add(to *[]template, refused map[string]int, what string, endpoints int, make func(i int) (template, error)) {
	for i := range endpoints {
		t, err := make(i)
		if err == nil && len(*to) >= maxMonitors {
			err = fmt.Errorf("there are more than %d endpoints of monitors", maxMonitors)
		}
		if err != nil {
			refused[fmt.Sprintf("%s, endpoint %d: %v", what, i, err)]++
			continue
		}
		*to = append(*to, t)
	}
}

// each lists a kind, page by page. A kind whose definition is not installed has
// no objects.
func each[T any](ctx context.Context, d *Discovery, resource string, refused map[string]int, complete *bool, f func(*T)) {
	fail := func(why string) {
		refused[why]++
		*complete = false
	}
	resume := ""
	for {
		body, err := d.o.Monitors(ctx, monitoringPath+resource, resume)
		switch {
		case apierrors.IsNotFound(err):
			return
		case apierrors.IsForbidden(err):
			refused[fmt.Sprintf("needs list on %s in API group monitoring.coreos.com", resource)]++
			return // it stays so until somebody changes it: none are scraped
		case err != nil:
			fail(fmt.Sprintf("list %s: %v", resource, err))
			return
		}
		raw, err := io.ReadAll(io.LimitReader(body, maxListBytes+1))
		_ = body.Close()
		if err != nil || len(raw) > maxListBytes {
			fail(fmt.Sprintf("list %s: %d bytes read (%v)", resource, len(raw), err))
			return
		}
		var list struct {
			Metadata metav1.ListMeta   `json:"metadata"`
			Items    []json.RawMessage `json:"items"`
		}
		if err := json.Unmarshal(raw, &list); err != nil {
			fail(fmt.Sprintf("list %s: %v", resource, err))
			return
		}
		for _, item := range list.Items {
			m := new(T)
			if err := json.Unmarshal(item, m); err != nil { // one that an older definition let through
				refused[fmt.Sprintf("%s: %v", resource, err)]++
				continue
			}
			f(m)
		}
		if resume = list.Metadata.Continue; resume == "" {
			return
		}
	}
}

// settings is a scrape configuration as Prometheus' file has it, so that its own
// parser checks all of it.
type settings map[string]any

func (s settings) set(key string, v any, is bool) {
	if is {
		s[key] = v
	}
}

func (s settings) load() (*config.ScrapeConfig, error) {
	text, err := json.Marshal(map[string]any{"scrape_configs": []any{s}}) // JSON is YAML
	if err != nil {
		return nil, err
	}
	c, err := config.Load(string(text), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	out := c.ScrapeConfigs[0]
	if _, said := s["scrape_interval"]; !said { // Load filled in Prometheus' own defaults
		out.ScrapeInterval = 0
	}
	if _, said := s["scrape_timeout"]; !said {
		out.ScrapeTimeout = 0
	}
	return out, nil
}

func pointed[T any](s settings, key string, v *T) {
	if v != nil {
		s[key] = *v
	}
}

// secrets refuses what no role of ours may read, and files, which are the
// collector's own and not the monitor's.
func secrets(h monitoringv1.HTTPConfigWithoutTLS, tls *monitoringv1.SafeTLSConfig, files bool) error {
	switch {
	case files:
		return fmt.Errorf("it names files of the collector, which a monitor may not read; put the job into --scrape-config")
	case h.BasicAuth != nil, h.OAuth2 != nil, h.BearerTokenSecret != nil && h.BearerTokenSecret.Name != "",
		h.Authorization != nil && h.Authorization.Credentials != nil:
		return fmt.Errorf("it needs a Secret, which the collector may not read; put the job into --scrape-config")
	case tls != nil && (tls.CA.Secret != nil || tls.CA.ConfigMap != nil || tls.Cert.Secret != nil || tls.Cert.ConfigMap != nil || tls.KeySecret != nil):
		return fmt.Errorf("its certificates are in a Secret or ConfigMap, which the collector may not read; put the job into --scrape-config")
	}
	return nil
}

func (s settings) tls(t *monitoringv1.SafeTLSConfig) {
	if t == nil {
		return
	}
	out := map[string]any{}
	pointed(out, "server_name", t.ServerName)
	pointed(out, "insecure_skip_verify", t.InsecureSkipVerify)
	pointed(out, "min_version", t.MinVersion)
	pointed(out, "max_version", t.MaxVersion)
	s["tls_config"] = out
}

func (s settings) http(h monitoringv1.HTTPConfigWithoutTLS, p monitoringv1.ProxyConfig) {
	pointed(s, "follow_redirects", h.FollowRedirects)
	pointed(s, "enable_http2", h.EnableHTTP2)
	pointed(s, "proxy_url", p.ProxyURL)
	pointed(s, "no_proxy", p.NoProxy)
}

func (s settings) scheme(v *monitoringv1.Scheme) {
	if v != nil {
		s["scheme"] = strings.ToLower(string(*v))
	}
}

func (s settings) relabel(key string, all []monitoringv1.RelabelConfig) {
	var out []any
	for _, r := range all {
		c := settings{}
		c.set("source_labels", r.SourceLabels, len(r.SourceLabels) > 0)
		pointed(c, "separator", r.Separator)
		c.set("target_label", r.TargetLabel, r.TargetLabel != "")
		c.set("regex", r.Regex, r.Regex != "")
		c.set("modulus", r.Modulus, r.Modulus != 0)
		pointed(c, "replacement", r.Replacement)
		c.set("action", strings.ToLower(r.Action), r.Action != "")
		out = append(out, c)
	}
	s.set(key, out, len(out) > 0)
}

// limits are the same fields in all three kinds.
func (s settings) limits(samples, targets, names, nameBytes, valueBytes *uint64, protocols []monitoringv1.ScrapeProtocol, fallback *monitoringv1.ScrapeProtocol) {
	pointed(s, "sample_limit", samples)
	pointed(s, "target_limit", targets)
	pointed(s, "label_limit", names)
	pointed(s, "label_name_length_limit", nameBytes)
	pointed(s, "label_value_length_limit", valueBytes)
	s.set("scrape_protocols", protocols, len(protocols) > 0)
	pointed(s, "fallback_scrape_protocol", fallback)
}

// within says whether a monitor of a namespace looks into another one.
func within(s monitoringv1.NamespaceSelector, own string) func(string) bool {
	if s.Any {
		return func(string) bool { return true }
	}
	if len(s.MatchNames) == 0 {
		return func(namespace string) bool { return namespace == own }
	}
	in := map[string]bool{}
	for _, n := range s.MatchNames {
		in[n] = true
	}
	return func(namespace string) bool { return in[namespace] }
}

func serviceMonitor(m *monitoringv1.ServiceMonitor, i int) (template, error) {
	e := m.Spec.Endpoints[i]
	var tls *monitoringv1.SafeTLSConfig
	files := e.BearerTokenFile != "" //nolint:staticcheck // deprecated there, but still in use
	if e.TLSConfig != nil {
		tls = &e.TLSConfig.SafeTLSConfig
		files = files || e.TLSConfig.CAFile != "" || e.TLSConfig.CertFile != "" || e.TLSConfig.KeyFile != ""
	}
	if err := secrets(e.HTTPConfigWithoutTLS, tls, files); err != nil {
		return template{}, err
	}
	if m.Spec.ScrapeClassName != nil {
		return template{}, fmt.Errorf("scrape class %q is defined by a Prometheus object, which is not read", *m.Spec.ScrapeClassName)
	}
	selector, err := metav1.LabelSelectorAsSelector(&m.Spec.Selector)
	if err != nil {
		return template{}, fmt.Errorf("selector: %w", err)
	}
	s := settings{"job_name": fmt.Sprintf("serviceMonitor/%s/%s/%d", m.Namespace, m.Name, i)}
	s.set("honor_labels", true, e.HonorLabels)
	pointed(s, "honor_timestamps", e.HonorTimestamps)
	pointed(s, "track_timestamps_staleness", e.TrackTimestampsStaleness)
	s.set("scrape_interval", e.Interval, e.Interval != "")
	s.set("scrape_timeout", e.ScrapeTimeout, e.ScrapeTimeout != "")
	s.set("metrics_path", e.Path, e.Path != "")
	s.set("params", e.Params, e.Params != nil)
	s.scheme(e.Scheme)
	s.http(e.HTTPConfigWithoutTLS, e.ProxyConfig)
	s.tls(tls)
	s.relabel("relabel_configs", e.RelabelConfigs)
	s.relabel("metric_relabel_configs", e.MetricRelabelConfigs)
	s.limits(m.Spec.SampleLimit, m.Spec.TargetLimit, m.Spec.LabelLimit, m.Spec.LabelNameLengthLimit, m.Spec.LabelValueLengthLimit, m.Spec.ScrapeProtocols, m.Spec.FallbackScrapeProtocol)
	pointed(s, "body_size_limit", m.Spec.BodySizeLimit)
	c, err := s.load()
	if err != nil {
		return template{}, err
	}
	looks := within(m.Spec.NamespaceSelector, m.Namespace)
	return template{family: ServiceMonitor, config: c, targets: func(o *Objects) []model.LabelSet {
		var out []model.LabelSet
		for _, v := range o.services {
			if looks(v.namespace) && selector.Matches(labels.Set(v.labels)) {
				out = append(out, serviceTargets(o, m, e, v)...)
			}
		}
		return out
	}}, nil
}

func serviceTargets(o *Objects, m *monitoringv1.ServiceMonitor, e monitoringv1.Endpoint, v *service) []model.LabelSet {
	var out []model.LabelSet
	seen := map[string]bool{}
	o.endpoints(v, func(number int32, name, address string, p *pod) {
		switch {
		case e.Port != "":
			if name != e.Port {
				return
			}
		case e.TargetPort != nil: // a port of the pod, whether or not the Service has it
			if p == nil {
				return
			}
			q, ok := p.find(*e.TargetPort)
			if !ok {
				return
			}
			number = q.number
		}
		at := net.JoinHostPort(address, strconv.Itoa(int(number)))
		if seen[at] {
			return
		}
		seen[at] = true
		ls := model.LabelSet{model.AddressLabel: model.LabelValue(at), meta + "namespace": model.LabelValue(v.namespace)}
		if p != nil {
			ls = p.target(p.at(number), at)
			delete(ls, "node")
		}
		v.meta(ls)
		ls[meta+"endpointslice_port_name"], ls[meta+"endpointslice_port"] = model.LabelValue(name), model.LabelValue(strconv.Itoa(int(number)))
		ls[meta+"endpoint_port_name"] = model.LabelValue(name)
		ls["namespace"], ls["service"], ls[model.JobLabel] = model.LabelValue(v.namespace), model.LabelValue(v.name), model.LabelValue(v.name)
		copyLabels(ls, m.Spec.TargetLabels, v.labels)
		if p != nil {
			copyLabels(ls, m.Spec.PodTargetLabels, p.labels)
		}
		if job := v.labels[m.Spec.JobLabel]; m.Spec.JobLabel != "" && job != "" {
			ls[model.JobLabel] = model.LabelValue(job)
		}
		if e.Port != "" {
			ls["endpoint"] = model.LabelValue(e.Port)
		} else if e.TargetPort != nil {
			ls["endpoint"] = model.LabelValue(e.TargetPort.String())
		}
		out = append(out, ls)
	})
	return out
}

func copyLabels(to model.LabelSet, names []string, from map[string]string) {
	for _, n := range names {
		if v := from[n]; v != "" {
			to[model.LabelName(strutil.SanitizeLabelName(n))] = model.LabelValue(v)
		}
	}
}

// find gives the container's port of a name or number.
func (p *pod) find(want intstr.IntOrString) (port, bool) {
	for _, q := range p.ports {
		if q.number != 0 && (want.Type == intstr.String && q.name == want.StrVal || want.Type == intstr.Int && q.number == want.IntVal) {
			return q, true
		}
	}
	return port{}, false
}

func podMonitor(m *monitoringv1.PodMonitor, i int) (template, error) {
	e := m.Spec.PodMetricsEndpoints[i]
	if err := secrets(e.HTTPConfigWithoutTLS, e.TLSConfig, false); err != nil {
		return template{}, err
	}
	if m.Spec.ScrapeClassName != nil {
		return template{}, fmt.Errorf("scrape class %q is defined by a Prometheus object, which is not read", *m.Spec.ScrapeClassName)
	}
	selector, err := metav1.LabelSelectorAsSelector(&m.Spec.Selector)
	if err != nil {
		return template{}, fmt.Errorf("selector: %w", err)
	}
	s := settings{"job_name": fmt.Sprintf("podMonitor/%s/%s/%d", m.Namespace, m.Name, i)}
	s.set("honor_labels", true, e.HonorLabels)
	pointed(s, "honor_timestamps", e.HonorTimestamps)
	pointed(s, "track_timestamps_staleness", e.TrackTimestampsStaleness)
	s.set("scrape_interval", e.Interval, e.Interval != "")
	s.set("scrape_timeout", e.ScrapeTimeout, e.ScrapeTimeout != "")
	s.set("metrics_path", e.Path, e.Path != "")
	s.set("params", e.Params, e.Params != nil)
	s.scheme(e.Scheme)
	s.http(e.HTTPConfigWithoutTLS, e.ProxyConfig)
	s.tls(e.TLSConfig)
	s.relabel("relabel_configs", e.RelabelConfigs)
	s.relabel("metric_relabel_configs", e.MetricRelabelConfigs)
	s.limits(m.Spec.SampleLimit, m.Spec.TargetLimit, m.Spec.LabelLimit, m.Spec.LabelNameLengthLimit, m.Spec.LabelValueLengthLimit, m.Spec.ScrapeProtocols, m.Spec.FallbackScrapeProtocol)
	pointed(s, "body_size_limit", m.Spec.BodySizeLimit)
	c, err := s.load()
	if err != nil {
		return template{}, err
	}
	looks := within(m.Spec.NamespaceSelector, m.Namespace)
	endpoint := ""
	var want *intstr.IntOrString
	switch {
	case e.Port != nil && *e.Port != "":
		endpoint = *e.Port
		want = &intstr.IntOrString{Type: intstr.String, StrVal: *e.Port}
	case e.PortNumber != nil && *e.PortNumber != 0:
		want = &intstr.IntOrString{Type: intstr.Int, IntVal: *e.PortNumber}
	case e.TargetPort != nil: //nolint:staticcheck // deprecated there, but still in use
		want = e.TargetPort //nolint:staticcheck // as above
		endpoint = want.String()
	}
	ended := e.FilterRunning != nil && !*e.FilterRunning
	return template{family: PodMonitor, config: c, targets: func(o *Objects) []model.LabelSet {
		var out []model.LabelSet
		for _, p := range o.pods {
			if !looks(p.namespace) || p.ip == "" || !ended && !p.scrapable() || !selector.Matches(labels.Set(p.labels)) {
				continue
			}
			for _, q := range p.ports {
				if want != nil {
					if found, ok := p.find(*want); !ok || found != q {
						continue
					}
				} else if q.number == 0 {
					continue
				}
				ls := p.target(q, net.JoinHostPort(p.ip, strconv.Itoa(int(q.number))))
				delete(ls, "node")
				ls[model.JobLabel] = model.LabelValue(m.Namespace + "/" + m.Name)
				if job := p.labels[m.Spec.JobLabel]; m.Spec.JobLabel != "" && job != "" {
					ls[model.JobLabel] = model.LabelValue(job)
				}
				copyLabels(ls, m.Spec.PodTargetLabels, p.labels)
				if endpoint != "" {
					ls["endpoint"] = model.LabelValue(endpoint)
				}
				out = append(out, ls)
			}
		}
		return out
	}}, nil
}

func probe(m *monitoringv1.Probe) (template, error) {
	if err := secrets(m.Spec.HTTPConfigWithoutTLS, m.Spec.TLSConfig, false); err != nil {
		return template{}, err
	}
	if m.Spec.Authorization != nil && m.Spec.Authorization.Credentials != nil {
		return template{}, secrets(monitoringv1.HTTPConfigWithoutTLS{Authorization: m.Spec.Authorization}, nil, false)
	}
	static := m.Spec.Targets.StaticConfig
	switch {
	case m.Spec.ProberSpec.URL == "":
		return template{}, fmt.Errorf("prober.url is missing")
	case static == nil && m.Spec.Targets.Ingress != nil:
		return template{}, fmt.Errorf("targets from Ingress objects are not read; name them in targets.staticConfig")
	case static == nil:
		return template{}, fmt.Errorf("targets are missing")
	case m.Spec.ScrapeClassName != nil:
		return template{}, fmt.Errorf("scrape class %q is defined by a Prometheus object, which is not read", *m.Spec.ScrapeClassName)
	}
	path := m.Spec.ProberSpec.Path
	if path == "" {
		path = "/probe"
	}
	params := map[string][]string{}
	for _, p := range m.Spec.Params {
		params[p.Name] = p.Values
	}
	if m.Spec.Module != "" {
		params["module"] = []string{m.Spec.Module}
	}
	s := settings{"job_name": "probe/" + m.Namespace + "/" + m.Name, "metrics_path": path, "honor_timestamps": true}
	s.set("params", params, len(params) > 0)
	s.set("scrape_interval", m.Spec.Interval, m.Spec.Interval != "")
	s.set("scrape_timeout", m.Spec.ScrapeTimeout, m.Spec.ScrapeTimeout != "")
	s.scheme(m.Spec.ProberSpec.Scheme)
	s.http(m.Spec.HTTPConfigWithoutTLS, m.Spec.ProberSpec.ProxyConfig)
	s.tls(m.Spec.TLSConfig)
	s.relabel("relabel_configs", static.RelabelConfigs)
	s.relabel("metric_relabel_configs", m.Spec.MetricRelabelConfigs)
	s.limits(m.Spec.SampleLimit, m.Spec.TargetLimit, m.Spec.LabelLimit, m.Spec.LabelNameLengthLimit, m.Spec.LabelValueLengthLimit, m.Spec.ScrapeProtocols, m.Spec.FallbackScrapeProtocol)
	c, err := s.load()
	if err != nil {
		return template{}, err
	}
	job := m.Spec.JobName
	if job == "" {
		job = c.JobName
	}
	var targets []model.LabelSet
	for _, t := range static.Targets {
		ls := model.LabelSet{"namespace": model.LabelValue(m.Namespace)}
		for n, v := range static.Labels {
			ls[model.LabelName(n)] = model.LabelValue(v)
		}
		ls[model.AddressLabel], ls[model.ParamLabelPrefix+"target"] = model.LabelValue(m.Spec.ProberSpec.URL), model.LabelValue(t)
		ls[model.InstanceLabel], ls[model.JobLabel] = model.LabelValue(t), model.LabelValue(job)
		targets = append(targets, ls)
	}
	return template{family: Probe, config: c, targets: func(*Objects) []model.LabelSet { return targets }}, nil
}
