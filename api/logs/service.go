package logs

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// maxPodsBehind bounds what one query names.
const maxPodsBehind = 10_000

// service is a Service of which lines are asked for; without a name none is.
type service struct{ cluster, namespace, name string }

// serviceOf reads the parameters service and namespace.
func serviceOf(fs *fault.Fields, name, namespace string, clusters []string) service {
	switch {
	case name == "" && namespace != "":
		fs.Add("namespace", "goes with service: filter the lines of a namespace by the query, as namespace:="+strconv.Quote(namespace), namespace)
	case name == "":
	case namespace == "":
		fs.Add("namespace", "is required with service", nil)
	case len(clusters) != 1:
		fs.Add("cluster", "must name one cluster with service", clusters)
	default:
		return service{clusters[0], namespace, name}
	}
	return service{}
}

// behind gives what narrows a query to the pods behind a Service, asked for anew each
// time: a tail follows those that come. It is nil where no Service is asked for.
func (h *Handler) behind(of service) func() (string, error) {
	if of.name == "" {
		return nil
	}
	return func() (string, error) {
		if h.opts.Services == nil {
			return "", fmt.Errorf("service %s/%s in cluster %s: %w", of.namespace, of.name, of.cluster, fault.ErrNotFound)
		}
		pods, err := h.opts.Services.PodsBehind(of.cluster, of.namespace, of.name)
		if err != nil {
			return "", err
		}
		if len(pods) > maxPodsBehind {
			return "", fault.Field{Path: "service", Reason: fmt.Sprintf("has %d pods and may have %d here: ask for their workloads", len(pods), maxPodsBehind), Value: of.name}
		}
		var b strings.Builder
		fmt.Fprintf(&b, "{namespace=%q} pod:in(", of.namespace)
		for i, name := range pods {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(strconv.Quote(name))
		}
		b.WriteByte(')')
		return b.String(), nil
	}
}
