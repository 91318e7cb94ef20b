package alertmanager

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-openapi/strfmt"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/alertmanager/api/v2/models"
	"github.com/prometheus/alertmanager/pkg/labels"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

const (
	idPrefix = "sil_"
	// createdBy is the label in which the author that a client names is kept.
	createdBy  = "created-by"
	maxSilence = 1 << 20
)

// uuidOf writes our id as the UUID that Alertmanager's clients expect: both are
// 16 bytes.
func uuidOf(id string) string {
	u, err := ulid.ParseStrict(strings.TrimPrefix(id, idPrefix))
	if err != nil {
		return id
	}
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// idOf is the inverse of uuidOf; our own ids are taken too.
func idOf(given string) string {
	raw, err := hex.DecodeString(strings.ReplaceAll(given, "-", ""))
	if err != nil || len(raw) != 16 {
		return given
	}
	var u ulid.ULID
	copy(u[:], raw)
	return idPrefix + u.String()
}

// silenceIDs gives the ids of silences by name, as clients know them.
func silenceIDs(rows []meta.Resource) map[string]string {
	out := map[string]string{}
	for _, r := range rows {
		if r.Kind == meta.KindSilence {
			out[r.Name] = uuidOf(r.ID)
		}
	}
	return out
}

func (h *Handler) showSilence(r meta.Resource) (*models.GettableSilence, error) {
	var s routing.SilenceSpec
	if err := json.Unmarshal(r.Spec, &s); err != nil {
		return nil, fmt.Errorf("read silence %q: %w", r.Name, err)
	}
	out := &models.GettableSilence{ID: ptr(uuidOf(r.ID)), UpdatedAt: ptr(strfmt.DateTime(r.UpdatedAt))}
	for _, text := range s.Matchers {
		m, err := labels.ParseMatcher(text)
		if err != nil {
			return nil, fmt.Errorf("read silence %q: %w", r.Name, err)
		}
		out.Matchers = append(out.Matchers, &models.Matcher{
			Name: ptr(m.Name), Value: ptr(m.Value), IsRegex: ptr(m.Type == labels.MatchRegexp || m.Type == labels.MatchNotRegexp),
			IsEqual: ptr(m.Type == labels.MatchEqual || m.Type == labels.MatchRegexp),
		})
	}
	from, until := r.CreatedAt, r.CreatedAt
	if s.From != nil {
		from = *s.From
	}
	if s.Until != nil {
		until = *s.Until
	}
	now := h.opts.Now()
	state := models.SilenceStatusStateActive
	switch {
	case !until.After(now):
		state = models.SilenceStatusStateExpired
	case from.After(now):
		state = models.SilenceStatusStatePending
	}
	by := r.Labels[createdBy]
	if by == "" {
		by = r.UpdatedBy
	}
	out.Status = &models.SilenceStatus{State: ptr(state)}
	out.StartsAt, out.EndsAt = ptr(strfmt.DateTime(from)), ptr(strfmt.DateTime(until))
	out.Comment, out.CreatedBy = ptr(s.Comment), ptr(by)
	return out, nil
}

func (h *Handler) silences(r *http.Request) (any, error) {
	filter, err := parseFilter(r.URL.Query()["filter"])
	if err != nil {
		return nil, err
	}
	var rows []meta.Resource
	if err := h.opts.Store.View(r.Context(), func(tx *meta.Tx) (err error) { rows, err = tx.Resources(meta.KindSilence); return err }); err != nil {
		return nil, err
	}
	out := models.GettableSilences{}
	for _, row := range rows {
		s, err := h.showSilence(row)
		if err != nil {
			return nil, err
		}
		if silenceMatches(s, filter) {
			out = append(out, s)
		}
	}
	rank := map[string]int{models.SilenceStatusStateActive: 0, models.SilenceStatusStatePending: 1, models.SilenceStatusStateExpired: 2}
	slices.SortStableFunc(out, func(a, b *models.GettableSilence) int {
		if d := rank[*a.Status.State] - rank[*b.Status.State]; d != 0 {
			return d
		}
		return time.Time(*a.EndsAt).Compare(time.Time(*b.EndsAt))
	})
	return out, nil
}

// silenceMatches says whether a silence has matchers that a filter takes, as
// Alertmanager compares them.
func silenceMatches(s *models.GettableSilence, filter []*labels.Matcher) bool {
	for _, f := range filter {
		found := false
		for _, m := range s.Matchers {
			found = found || (*m.Name == f.Name && f.Matches(*m.Value))
		}
		if !found {
			return false
		}
	}
	return true
}

func silenceRow(tx *meta.Tx, given string) (meta.Resource, error) {
	r, err := tx.ResourceByID(idOf(given))
	if err == nil && r.Kind != meta.KindSilence {
		err = fmt.Errorf("silence %q: %w", given, fault.ErrNotFound)
	}
	return r, err
}

func (h *Handler) silence(r *http.Request) (any, error) {
	var row meta.Resource
	if err := h.opts.Store.View(r.Context(), func(tx *meta.Tx) (err error) { row, err = silenceRow(tx, r.PathValue("id")); return err }); err != nil {
		return nil, err
	}
	return h.showSilence(row)
}

// expireSilence ends a silence; it stays to be seen.
func (h *Handler) expireSilence(r *http.Request) (any, error) {
	now := h.opts.Now().UTC().Truncate(time.Millisecond)
	err := h.opts.Store.Update(r.Context(), func(tx *meta.Tx) error {
		row, err := silenceRow(tx, r.PathValue("id"))
		if err != nil {
			return err
		}
		var s routing.SilenceSpec
		if err := json.Unmarshal(row.Spec, &s); err != nil {
			return err
		}
		if s.Until != nil && !s.Until.After(now) {
			return fmt.Errorf("silence %s is expired already: %w", r.PathValue("id"), fault.ErrInvalid)
		}
		s.Until = &now
		if s.From == nil || s.From.After(now) {
			s.From = &now
		}
		if row.Spec, err = json.Marshal(s); err != nil {
			return err
		}
		row.UpdatedAt, row.UpdatedBy = now, access.Who(r.Context())
		_, err = tx.UpdateResource(row)
		return err
	})
	if err == nil {
		h.opts.Changed()
	}
	return nil, err
}

// putSilence makes a silence, or changes the one whose id is given.
func (h *Handler) putSilence(r *http.Request) (any, error) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxSilence))
	if err != nil {
		return nil, fmt.Errorf("read silence: %w: %w", fault.ErrMalformed, err)
	}
	var given models.PostableSilence
	if err := json.Unmarshal(raw, &given); err != nil {
		return nil, fmt.Errorf("read silence: %w: %w", fault.ErrMalformed, err)
	}
	if err := given.Validate(strfmt.Default); err != nil {
		return nil, fmt.Errorf("silence: %w: %w", fault.ErrInvalid, err)
	}
	now := h.opts.Now().UTC().Truncate(time.Millisecond)
	from, until := time.Time(*given.StartsAt).UTC().Truncate(time.Millisecond), time.Time(*given.EndsAt).UTC().Truncate(time.Millisecond)
	if from.Before(now) && given.ID == "" {
		from = now
	}
	if !until.After(now) || !until.After(from) {
		return nil, fmt.Errorf("silence: the end must be in the future and after the start: %w", fault.ErrInvalid)
	}
	s := routing.SilenceSpec{From: &from, Until: &until, Comment: *given.Comment}
	for _, m := range given.Matchers {
		typ := map[[2]bool]labels.MatchType{
			{false, true}: labels.MatchEqual, {false, false}: labels.MatchNotEqual, {true, true}: labels.MatchRegexp, {true, false}: labels.MatchNotRegexp,
		}[[2]bool{*m.IsRegex, m.IsEqual == nil || *m.IsEqual}]
		parsed, err := labels.NewMatcher(typ, *m.Name, *m.Value)
		if err != nil {
			return nil, fmt.Errorf("silence: matcher %s: %w: %w", *m.Name, fault.ErrInvalid, err)
		}
		s.Matchers = append(s.Matchers, parsed.String())
	}
	by := *given.CreatedBy
	var id string
	err = h.opts.Store.Update(r.Context(), func(tx *meta.Tx) error {
		row := meta.Resource{ID: incident.NewID(idPrefix, now), Kind: meta.KindSilence, Project: policy.DefaultProject, ManagedBy: "console", CreatedAt: now}
		there := false
		if given.ID != "" {
			old, err := silenceRow(tx, given.ID)
			if err != nil {
				return err
			}
			// One that is over is not brought back; the client gets a new one.
			var was routing.SilenceSpec
			if err := json.Unmarshal(old.Spec, &was); err != nil {
				return err
			}
			if was.Until != nil && was.Until.After(now) {
				row, there = old, true
			}
		}
		id = row.ID
		if row.Name == "" {
			row.Name = "am-" + strings.ToLower(strings.TrimPrefix(id, idPrefix))
		}
		doc, err := json.Marshal(routing.Silence{APIVersion: policy.APIVersion, Kind: meta.KindSilence, Metadata: policy.Metadata{Name: row.Name}, Spec: s})
		if err != nil {
			return err
		}
		parsed, err := routing.ParseSilence(doc, routing.Known{})
		if err != nil {
			return err
		}
		if row.Spec, err = json.Marshal(parsed.Spec); err != nil {
			return err
		}
		row.Labels, row.UpdatedAt, row.UpdatedBy = map[string]string{createdBy: by}, now, access.Who(r.Context())
		if there {
			_, err = tx.UpdateResource(row)
			return err
		}
		return tx.CreateResource(row)
	})
	if err != nil {
		if errors.Is(err, fault.ErrMalformed) {
			err = fmt.Errorf("silence: %w: %w", fault.ErrInvalid, err)
		}
		return nil, err
	}
	h.opts.Changed()
	return map[string]string{"silenceID": uuidOf(id)}, nil
}
