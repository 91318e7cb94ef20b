package ticket_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/notify"
	"github.com/crowsnest-dev/crowsnest/alerting/ticket"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

var _ ticket.Sealer = (*notify.Keyring)(nil)

func TestTicket(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	mine, err := notify.NewKeyring(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	other, err := notify.NewKeyring([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	made := ticket.New(ticket.Acknowledge, "inc_1", "ntf_1", "shop-chat", now)
	text := made.Seal(mine)
	got, err := ticket.Open(text, mine, now.Add(time.Hour))
	if err != nil || got != made {
		t.Fatalf("got %+v, %v", got, err)
	}
	if silence := ticket.New(ticket.Silence, "inc_1", "ntf_1", "shop-chat", now); silence.ID == made.ID {
		t.Error("the two links of one notification are one ticket")
	}
	target := mine.Seal([]byte(`{"a":"acknowledge"}`), "tgt_1")
	for name, tc := range map[string]struct {
		text string
		at   time.Time
		want error
	}{
		"expired":                  {text, now.Add(ticket.ValidFor), fault.ErrForbidden},
		"no base64":                {"%%%", now, fault.ErrNotFound},
		"empty":                    {"", now, fault.ErrNotFound},
		"cut short":                {text[:len(text)-4], now, fault.ErrNotFound},
		"changed":                  {"A" + text[1:], now, fault.ErrNotFound},
		"of another server":        {made.Seal(other), now, fault.ErrNotFound},
		"sealed as something else": {string(target), now, fault.ErrNotFound},
	} {
		if _, err := ticket.Open(tc.text, mine, tc.at); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}
