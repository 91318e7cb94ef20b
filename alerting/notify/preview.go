package notify

import (
	"fmt"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
)

// Shape is what decides how a webhook's body looks.
type Shape struct {
	Format   string        `json:"format,omitempty" enum:"crowsnest/v1,alertmanager/v4,tencent/callback,template" doc:"Left out: crowsnest/v1."`
	Template *BodyTemplate `json:"template,omitempty" doc:"For format template."`
	Timezone string        `json:"timezone,omitempty" doc:"IANA zone. Left out: UTC."`
	MaxBytes int           `json:"maxBytes,omitempty" doc:"Left out: 65536."`
}

// Preview is what a webhook would get.
type Preview struct {
	ContentType string `json:"content_type"`
	Body        string `json:"body"`
	Fault       string `json:"fault" doc:"What the template fails at on this message; a plain text is sent then. Empty: it does not fail."`
}

// PreviewBody renders a message as a webhook of this shape would get it.
func PreviewBody(shape Shape, m incident.Message) (Preview, error) {
	spec := TargetSpec{Type: TypeWebhook, Format: shape.Format, Template: shape.Template, MaxBytes: shape.MaxBytes, Timezone: shape.Timezone}
	v := &targetCheck{}
	v.body(&spec)
	if err := v.fields.Err(); err != nil {
		return Preview{}, err
	}
	raw, err := m.Encode(spec.MaxBytes)
	if err != nil {
		return Preview{}, fmt.Errorf("encode the message: %w", err)
	}
	body, contentType, broken := note{id: m.ID, typ: string(m.Type), body: raw}.render(&spec)
	return Preview{ContentType: contentType, Body: string(body), Fault: broken}, nil
}
