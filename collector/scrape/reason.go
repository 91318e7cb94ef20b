package scrape

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Reasons for which a scrape fails.
const (
	failedTimeout = "timeout"      // no answer, or not all of it, in time
	failedConnect = "connect"      // nobody listens, no such host, the connection broke
	failedTLS     = "tls"          // the certificate is not trusted
	failedStatus  = "status"       // another status than 200
	failedBody    = "body_size"    // the body is larger than the limit
	failedSamples = "sample_limit" // more samples than the limit
	failedTargets = "target_limit" // the job has more targets than the limit
	failedLabels  = "label_limit"  // labels that are too many or too long
	failedParse   = "parse"        // no exposition format
)

var failures = []string{failedTimeout, failedConnect, failedTLS, failedStatus, failedBody, failedSamples, failedTargets, failedLabels, failedParse}

// reasonOf makes a bounded label of a scrape's error. Prometheus gives most of
// them as text only; the texts are held by a test with real targets.
func reasonOf(err error) string {
	var (
		at  net.Error
		op  *net.OpError
		dns *net.DNSError
	)
	if err == nil {
		return failedParse
	}
	if reason, _, ok := told(err); ok {
		return reason
	}
	text := err.Error()
	for _, c := range []struct{ part, reason string }{
		{"body size limit", failedBody}, {"sample limit exceeded", failedSamples}, {"sample_limit exceeded", failedSamples}, {"target_limit exceeded", failedTargets},
		{"label_limit exceeded", failedLabels}, {"label_name_length_limit", failedLabels}, {"label_value_length_limit", failedLabels},
		{"server returned HTTP status", failedStatus}, {"x509:", failedTLS}, {"tls:", failedTLS},
	} {
		if strings.Contains(text, c.part) {
			return c.reason
		}
	}
	switch {
	case errors.Is(err, fault.ErrForbidden), errors.Is(err, fault.ErrUnauthenticated), errors.Is(err, fault.ErrNotFound):
		return failedStatus
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &at) && at.Timeout():
		return failedTimeout
	case errors.As(err, &op), errors.As(err, &dns), strings.Contains(text, "EOF") && !strings.Contains(text, "parsing"), strings.Contains(text, "connection reset"):
		return failedConnect
	}
	return failedParse
}
