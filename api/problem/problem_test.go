package problem

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/humatest"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

func TestEveryKindHasItsStatusAndCode(t *testing.T) {
	for code, tc := range map[string]struct {
		err    error
		status int
	}{
		"malformed":       {fault.ErrMalformed, 400},
		"unauthenticated": {fault.ErrUnauthenticated, 401},
		"forbidden":       {fault.ErrForbidden, 403},
		"not_found":       {fault.ErrNotFound, 404},
		"conflict":        {fault.ErrConflict, 409},
		"too_large":       {fault.ErrTooLarge, 413},
		"invalid":         {fault.ErrInvalid, 422},
		"limited":         {fault.ErrLimited, 429},
		"unavailable":     {fault.ErrUnavailable, 503},
	} {
		rec := httptest.NewRecorder()
		Write(rec, httptest.NewRequest("GET", "/", nil), fmt.Errorf("policy %q: %w", "x", tc.err))
		var p Problem
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		if rec.Code != tc.status || p.Status != tc.status || p.Code != code || !strings.Contains(p.Detail, `policy "x"`) {
			t.Errorf("%s: got %d %+v", code, rec.Code, p)
		}
		if ct := rec.Header().Get("Content-Type"); ct != "application/problem+json" {
			t.Errorf("%s: content type %q", code, ct)
		}
	}
}

func TestInternalErrorsKeepTheirTextForTheLog(t *testing.T) {
	var instance, text string
	ctx := WithReporter(context.Background(), func(id string, err error) { instance, text = id, err.Error() })
	rec := httptest.NewRecorder()
	Write(rec, httptest.NewRequest("GET", "/", nil).WithContext(ctx), errors.New("disk /dev/secret is gone"))
	if rec.Code != 500 || strings.Contains(rec.Body.String(), "secret") {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
	if text != "disk /dev/secret is gone" || !strings.Contains(rec.Body.String(), instance) || instance == "" {
		t.Errorf("reported %q under %q, answered %s", text, instance, rec.Body)
	}
}

// Ending a server, or leaving it, is nothing that its log needs.
func TestACancelledRequestIsNoError(t *testing.T) {
	ctx := WithReporter(context.Background(), func(_ string, err error) { t.Errorf("reported: %v", err) })
	rec := httptest.NewRecorder()
	Write(rec, httptest.NewRequest("POST", "/", nil).WithContext(ctx), fmt.Errorf("append logs: %w", context.Canceled))
	if rec.Code != 503 {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
}

func TestFieldsBecomeTheListOfErrors(t *testing.T) {
	var fs fault.Fields
	fs.Add("spec.period", "must be a multiple of 30s", "5s")
	fs.Add("spec.threshold", "must be a number", math.NaN()) // which JSON cannot say
	fs.Say("spec.recoverAfter", fault.Say(fault.Between, 1, 10), 0)
	p := Of(fmt.Errorf("policy: %w", fs.Err()))
	if want := (Wrong{Location: "body.spec.period", Message: "must be a multiple of 30s", Value: "5s"}); len(p.Errors) != 3 || !reflect.DeepEqual(p.Errors[0], want) || p.Errors[1].Value != nil {
		t.Errorf("got %+v", p.Errors)
	}
	want := Wrong{Location: "body.spec.recoverAfter", Message: "must be from 1 to 10", Value: 0, Reason: "between", Params: map[string]string{"min": "1", "max": "10"}}
	if !reflect.DeepEqual(p.Errors[2], want) {
		t.Errorf("got %+v, want %+v", p.Errors[2], want)
	}
	if p := Of(fmt.Errorf("one: %w", fault.Field{Path: "a", Reason: "is required"})); len(p.Errors) != 1 {
		t.Errorf("a single field: got %+v", p.Errors)
	}
}

// What is refused as a whole names its sentence, too.
func TestAReasonIsToldWithItsParameters(t *testing.T) {
	p := Of(fmt.Errorf("save: %w", fault.Because(fault.ErrConflict, fault.Exists, "board", "shop")))
	if p.Code != "conflict" || p.Reason != "exists" || !reflect.DeepEqual(p.Params, map[string]string{"kind": "board", "name": "shop"}) || p.Detail != `save: board "shop" is there already` {
		t.Errorf("got %+v", p)
	}
}

func TestHumaSpeaksOurProblems(t *testing.T) {
	Use()
	_, api := humatest.New(t)
	type in struct {
		Body struct {
			Size int `json:"size" minimum:"1"`
		}
	}
	huma.Post(api, "/things", func(_ context.Context, in *in) (*struct{}, error) {
		if in.Body.Size == 7 {
			return nil, fmt.Errorf("thing: %w", fault.ErrConflict) // plain, not wrapped by Error
		}
		return nil, Error(fmt.Errorf("thing: %w", fault.ErrUnavailable))
	})
	for name, tc := range map[string]struct {
		body, code string
		status     int
	}{
		"validation": {`{"size": 0, "colour": 1}`, "invalid", 422},
		"not JSON":   {`{`, "malformed", 400},
		"plain":      {`{"size": 7}`, "conflict", 409},
		"wrapped":    {`{"size": 1}`, "unavailable", 503},
	} {
		rec := api.Post("/things", strings.NewReader(tc.body))
		var p Problem
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		if rec.Code != tc.status || p.Code != tc.code {
			t.Errorf("%s: got %d %s", name, rec.Code, rec.Body)
		}
		if name == "validation" && len(p.Errors) != 2 {
			t.Errorf("want both wrong fields, got %+v", p.Errors)
		}
	}
	if got := Of(fault.ErrUnauthenticated).GetHeaders().Values("WWW-Authenticate"); len(got) != 2 {
		t.Errorf("a 401 says how to authenticate: got %v", got)
	}
}
