package notify

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

func TestPreviewShowsWhatAWebhookWouldGet(t *testing.T) {
	m := incident.ExampleMessage(time.Date(2026, 11, 23, 9, 5, 31, 0, time.UTC), incident.Links{Base: "https://crowsnest.example"})
	template := func(body, contentType string) Shape {
		return Shape{Format: FormatTemplate, Template: &BodyTemplate{Body: body, ContentType: contentType}}
	}
	for name, tc := range map[string]struct {
		shape            Shape
		has, typ, broken string
	}{
		"our own format":        {shape: Shape{}, has: `"version":"crowsnest/v1"`, typ: contentJSON},
		"Alertmanager's":        {shape: Shape{Format: FormatAlertmanager}, has: `"alertname":"cart-cpu"`, typ: contentJSON},
		"a template":            {shape: template(`{"text": "{{ (index .alerts 0).annotations.summary }}"}`, ""), has: `{"text": "cart is \"slow\""}`, typ: contentJSON},
		"a template of text":    {shape: template(`{{ .incident.severity }}: {{ .incident.title }}`, "text/plain"), has: "critical: cart in shop", typ: "text/plain"},
		"a template that fails": {shape: template(`{"a": "{{ index .alerts 7 }}"}`, ""), has: "cart in shop", typ: contentJSON, broken: "index"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := PreviewBody(tc.shape, m)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(got.Body, tc.has) || got.ContentType != tc.typ || !strings.Contains(got.Fault, tc.broken) || (tc.broken == "") != (got.Fault == "") {
				t.Errorf("got %+v", got)
			}
		})
	}
	for name, shape := range map[string]Shape{
		"unclosed":        template(`{{ range .alerts }}`, ""),
		"nothing":         {Format: FormatTemplate},
		"unknown format":  {Format: "smoke signals"},
		"unknown zone":    {Timezone: "Mars/Olympus"},
		"too few bytes":   {MaxBytes: 5},
		"template of v1":  {Format: FormatV1, Template: &BodyTemplate{Body: "x"}},
		"wrong mediatype": template("x", "text"),
	} {
		if _, err := PreviewBody(shape, m); !errors.Is(err, fault.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
