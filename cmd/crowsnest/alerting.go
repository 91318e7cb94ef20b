package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/custom"
	"github.com/crowsnest-dev/crowsnest/alerting/engine"
	"github.com/crowsnest-dev/crowsnest/alerting/evidence"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/notify"
	"github.com/crowsnest-dev/crowsnest/alerting/preset"
	"github.com/crowsnest-dev/crowsnest/alerting/replay"
	"github.com/crowsnest-dev/crowsnest/alerting/rules"
	"github.com/crowsnest-dev/crowsnest/alerting/ticket"
	"github.com/crowsnest-dev/crowsnest/alerting/watch"
	"github.com/crowsnest-dev/crowsnest/api"
	"github.com/crowsnest-dev/crowsnest/api/alertmanager"
	"github.com/crowsnest-dev/crowsnest/api/alerts"
	"github.com/crowsnest-dev/crowsnest/api/inventory"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/ingest"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// holder of the leases. The data folder's lock keeps a second server away, so
// that one need not wait for what a killed one held.
const holder = "server"

// toldFile, in the data folder, is what was told of the server itself: not in the
// metadata store, whose trouble is told of too.
const toldFile = "self-watch.json"

// alerting is the wired alert path, from samples that arrive to notifications.
type alerting struct {
	arrived  func(ingest.Arrival)
	watched  func() *ingest.Watch
	rolledUp func(rollup.Written)
	runs     []func(context.Context) error
	options  func(*api.Options)
	rules    *rules.Manager
	// incidents counts active incidents by cluster.
	incidents func(context.Context) (map[string]inventory.IncidentCount, error)
}

func (a *app) newAlerting(ctx context.Context) (*alerting, error) {
	keyring, err := notify.OpenKeyring(a.dir.join("secrets.key"))
	if err != nil {
		return nil, err
	}
	outbox, err := notify.New(notify.Options{
		Store: a.meta, Holder: holder, Keyring: keyring, Allowed: a.settings.webhookCIDRs.list, Logger: a.logger.With("part", "notify"), Registerer: a.registry,
	})
	if err != nil {
		return nil, err
	}
	if a.settings.presets {
		if err := preset.Install(ctx, a.meta, time.Now().UTC().Truncate(time.Millisecond)); err != nil {
			return nil, err
		}
	}
	scratch := a.dir.join("scratch")
	if err := errors.Join(os.RemoveAll(scratch), os.Mkdir(scratch, 0o700)); err != nil { // of backtests that a kill cut short
		return nil, fmt.Errorf("make the folder of backtests: %w", err)
	}
	eng, err := engine.New(engine.Options{
		Queryable: a.metrics, PromQL: a.promQL, Inventory: a.inventory, Changed: a.inventory.ChangedSince, Meta: a.meta, Lines: a.logs, Archive: a.inventory, ScratchDir: scratch, Told: outbox.Wake, PublicURL: a.publicURL(),
		Tickets: tickets(keyring), Holder: holder, Hours: hoursOf,
		Evidence:    &evidence.Collector{Lines: a.logs, Objects: a.inventory},
		Unavailable: a.unavailable, Logger: a.logger.With("part", partAlerting), Registerer: a.registry,
	})
	if err != nil {
		return nil, err
	}
	groups, err := rules.New(rules.Options{
		Store: a.metrics, PromQL: a.promQL, Rows: a.meta, Receiver: eng, Files: a.settings.ruleFiles, Alertmanagers: a.settings.alertmanagers.list,
		ExternalURL: a.publicURL(), Logger: quiet(a.logger.With("part", "rules")), Registerer: a.registry,
	})
	if err != nil {
		return nil, err
	}
	// The rollups are made of what is made here.
	newest := func(cluster, metric string, since, at int64, into []rollup.Value) ([]rollup.Value, bool) {
		return a.rollups.Newest(cluster, metric, since, at, into)
	}
	own, err := custom.New(ctx, custom.Options{
		Store: a.metrics, Rows: a.meta, PromQL: a.promQL, Next: eng.RolledUp, Newest: newest, Logger: a.logger.With("part", "custom"), Registerer: a.registry,
	})
	if err != nil {
		return nil, err
	}
	jobs := replay.New(eng, time.Now)
	self, err := watch.New(watch.Options{
		Rows: a.meta, Keyring: keyring, Sender: outbox, Checks: a.checks(eng), Links: incident.Links{Base: a.publicURL()},
		Logger: a.logger.With("part", "watch"), Registerer: a.registry,
		Load: func() ([]byte, error) {
			raw, err := os.ReadFile(a.dir.join(toldFile))
			if errors.Is(err, os.ErrNotExist) {
				err = nil
			}
			return raw, err
		},
		Save: func(raw []byte) error { return writeFile(a.dir.join(toldFile), string(raw)) },
	})
	if err != nil {
		return nil, err
	}
	am, err := alertmanager.New(alertmanager.Options{
		Store: a.meta, Receiver: eng, Changed: eng.PoliciesChanged, Version: version, StartedAt: a.startedAt,
	})
	if err != nil {
		return nil, err
	}
	return &alerting{
		arrived: eng.Arrived, watched: eng.Watched, rolledUp: own.RolledUp, runs: []func(context.Context) error{own.Run, eng.Run, outbox.Run, groups.Run, jobs.Run, self.Run},
		options: func(o *api.Options) {
			o.Alerts = alerts.Options{
				Store: a.meta, Engine: eng, Outbox: outbox, Keyring: keyring, Rules: groups, Custom: own, Backtests: jobs, Objects: a.inventory, PublicURL: a.publicURL(), CheckFilter: logs.CheckFilter,
			}
			o.Alertmanager = am
		},
		incidents: a.activeIncidents, rules: groups,
	}, nil
}

// hoursOf gives the calendar of a target.
func hoursOf(row meta.Resource) (engine.Hours, string) {
	t, err := notify.FromRow(row)
	if err != nil || t.Spec.Calendar == nil {
		return nil, ""
	}
	return t.Spec.Calendar, t.Spec.Calendar.Outside
}

// tickets makes the paths of the console's pages that act on an incident once.
func tickets(keyring *notify.Keyring) func(incident, notification, target string, now time.Time) (acknowledge, silence string) {
	path := func(action ticket.Action, incident, notification, target string, now time.Time) string {
		return "/act/" + ticket.New(action, incident, notification, target, now).Seal(keyring)
	}
	return func(incident, notification, target string, now time.Time) (acknowledge, silence string) {
		return path(ticket.Acknowledge, incident, notification, target, now), path(ticket.Silence, incident, notification, target, now)
	}
}

// activeIncidents counts open incidents by cluster and severity.
func (a *app) activeIncidents(ctx context.Context) (map[string]inventory.IncidentCount, error) {
	out := map[string]inventory.IncidentCount{}
	err := a.meta.View(ctx, func(tx *meta.Tx) error {
		open, err := tx.Incidents(meta.IncidentFilter{State: meta.IncidentOpen})
		for _, incident := range open {
			count := out[incident.Cluster]
			switch catalogue.Severity(incident.Severity) {
			case catalogue.Critical:
				count.Critical++
			case catalogue.Warning:
				count.Warning++
			case catalogue.Info:
				count.Info++
			}
			out[incident.Cluster] = count
		}
		return err
	})
	return out, err
}

// publicURL is what links in notifications begin with.
func (a *app) publicURL() string {
	if a.settings.externalURL != "" {
		return strings.TrimRight(a.settings.externalURL, "/")
	}
	return a.URL()
}

// unavailable gives the metrics that a cluster's collectors cannot fill, with
// the reasons.
func (a *app) unavailable(cluster string) map[string]string {
	out := map[string]string{}
	for _, h := range a.hub.Health(cluster) {
		for metric, reason := range h.Unavailable {
			out[metric] = reason
		}
	}
	return out
}
