package problem

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/humatest"
)

func TestARequestsShapeIsRefusedInSentencesWithCodes(t *testing.T) {
	Use()
	_, api := humatest.New(t)
	type part struct {
		Kind string `json:"kind" enum:"line,bar"`
	}
	type in struct {
		Limit int       `query:"limit" maximum:"10"`
		Since time.Time `query:"since"`
		Body  struct {
			Name  string     `json:"name" minLength:"2" maxLength:"4" pattern:"^[a-z]+$"`
			Size  int        `json:"size,omitempty" minimum:"1"`
			Ratio float64    `json:"ratio,omitempty"`
			On    bool       `json:"on,omitempty"`
			At    *time.Time `json:"at,omitempty"`
			Parts []part     `json:"parts,omitempty" maxItems:"1"`
			Part  *part      `json:"part,omitempty"`
		}
	}
	huma.Post(api, "/things", func(context.Context, *in) (*struct{}, error) { return nil, nil })
	for name, tc := range map[string]struct {
		query, body string
		want        []string // location, code and message
	}{
		"absent":         {"", `{}`, []string{"body.name required: is required"}},
		"absent further": {"", `{"name":"abc","parts":[{}]}`, []string{"body.parts[0].kind required: is required"}},
		"unknown":        {"", `{"name":"abc","nosuch":{"a":1}}`, []string{"body.nosuch key_unknown: unknown key"}},
		"types": {"", `{"name":1,"size":"a","ratio":"b","on":"c","parts":{},"part":[]}`, []string{
			"body.name not_text: must be text", "body.on not_bool: must be true or false", "body.part not_object: must be an object",
			"body.parts not_list: must be a list", "body.ratio not_number: must be a number", "body.size not_whole: must be a whole number",
		}},
		"not whole":     {"", `{"name":"abc","size":1.5}`, []string{"body.size not_whole: must be a whole number"}},
		"no time":       {"", `{"name":"abc","at":"noon"}`, []string{"body.at not_time: must be a time in RFC 3339"}},
		"none of those": {"", `{"name":"abc","part":{"kind":"pie"}}`, []string{"body.part.kind one_of: must be one of line, bar"}},
		"too small":     {"", `{"name":"abc","size":0}`, []string{"body.size at_least: must be at least 1"}},
		"too short":     {"", `{"name":"a"}`, []string{"body.name characters_at_least: must have 2 characters or more"}},
		"too long":      {"", `{"name":"abcde"}`, []string{"body.name characters_at_most: must be at most 4 characters"}},
		"too many":      {"", `{"name":"abc","parts":[{"kind":"bar"},{"kind":"bar"}]}`, []string{"body.parts entries_at_most: must have at most 1 entries"}},
		"pattern":       {"", `{"name":"A%b"}`, []string{"body.name matching: must match the pattern ^[a-z]+$"}},
		"parameters":    {"?limit=x&since=y", `{"name":"abc"}`, []string{"query.limit not_whole: must be a whole number", "query.since not_time: must be a time in RFC 3339"}},
		"too large":     {"?limit=11", `{"name":"abc"}`, []string{"query.limit at_most: must be at most 10"}},
	} {
		rec := api.Post("/things"+tc.query, strings.NewReader(tc.body))
		var p Problem
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, w := range p.Errors {
			got = append(got, w.Location+" "+string(w.Reason)+": "+w.Message)
		}
		slices.Sort(got)
		if rec.Code != 422 || !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %d\n%s\nwant\n%s", name, rec.Code, strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
		}
	}
}

func TestAnUnknownMessageStaysAsItIs(t *testing.T) {
	w := shaped(&huma.ErrorDetail{Location: "body.a", Message: "expected something new", Value: 1})
	if w.Message != "expected something new" || w.Reason != "" || w.Location != "body.a" || w.Value != 1 {
		t.Errorf("got %+v", w)
	}
}
