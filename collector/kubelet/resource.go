package kubelet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// resourceSet reads the exposition text of /metrics/resource: CPU and working
// set of containers by name, of pods and of the node, stamped in milliseconds.
// What is malformed ends the reading; what came before it counts.
func resourceSet(node string, body []byte, at time.Time, fits room) (reading.Set, error) {
	set := reading.Set{Node: node, Source: catalogue.ResourceAPI, Host: &reading.Node{}}
	containers := map[containerName]int{}
	pods := map[containerName]int{}
	p := textparse.NewPromParser(body, labels.NewSymbolTable(), false)
	var ls labels.Labels
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return set, nil
		}
		if err != nil {
			return set, fmt.Errorf("read /metrics/resource: %w: %v", fault.ErrMalformed, err)
		}
		if entry != textparse.EntrySeries {
			continue
		}
		text, ts, v := p.Series()
		if v != v || v < 0 || v > 1e300 {
			continue
		}
		r := reading.Value{V: v, At: at}
		if ts != nil {
			r.At = time.UnixMilli(*ts)
		}
		name, _, _ := bytes.Cut(text, []byte{'{'})
		switch string(name) {
		case "node_cpu_usage_seconds_total":
			set.Host.CPUBusySeconds = r
		case "node_memory_working_set_bytes":
			set.Host.MemUsedBytes = r
		case "container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_start_time_seconds":
			p.Labels(&ls)
			k := containerName{ls.Get("namespace"), ls.Get("pod"), ls.Get("container")}
			i, known := containers[k]
			if !known {
				if !fits.takes(len(containers), "", k.namespace, k.pod) {
					continue
				}
				i = len(set.Containers)
				containers[k] = i
				set.Containers = append(set.Containers, reading.Container{Namespace: k.namespace, Pod: k.pod, Name: k.container})
			}
			switch c := &set.Containers[i]; string(name) {
			case "container_cpu_usage_seconds_total":
				c.CPUSeconds = r
			case "container_memory_working_set_bytes":
				c.WorkingSetBytes = r
			default:
				c.StartedAt = unix(v)
			}
		case "pod_cpu_usage_seconds_total":
			p.Labels(&ls)
			k := containerName{namespace: ls.Get("namespace"), pod: ls.Get("pod")}
			if _, known := pods[k]; !known && fits.takes(len(pods), "", k.namespace, k.pod) {
				pods[k] = len(set.Pods)
				set.Pods = append(set.Pods, reading.Pod{Namespace: k.namespace, Name: k.pod, CPUSeconds: r})
			}
		}
	}
}
