package collector

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/queue"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// settingsFile, in the queue's folder, holds the last good settings, so that a
// start without the server goes on as before.
const settingsFile = "settings.json"

// ruled is a log source whose rules the server may set. They are in force from
// its next Run on; nil takes them back. What the local configuration says wins
// and is named. An error leaves the rules as they were.
type ruled interface {
	SetRules(r *wire.LogRules) (overridden map[string]string, err error)
}

// apply takes the server's settings as a whole, or nothing of them; local
// configuration wins.
func (c *Collector) apply(s wire.Settings) wire.Applied {
	a := c.set(s)
	if a.Error != "" {
		return a
	}
	if err := c.keep(s); err != nil {
		c.log.Warn("keep settings", "err", err) // they hold until the next start
	}
	c.log.Info("settings applied", "version", s.Version, "overridden", len(a.Overridden))
	return a
}

func (c *Collector) set(s wire.Settings) wire.Applied {
	a := wire.Applied{Version: s.Version, Overridden: map[string]string{}}
	err := s.Validate()
	if err == nil {
		for _, l := range c.o.World.Logs {
			r, ok := l.(ruled)
			if !ok {
				continue
			}
			overridden, rerr := r.SetRules(s.LogRules)
			if err = rerr; err != nil {
				break
			}
			maps.Copy(a.Overridden, overridden)
		}
	}
	if scraper := c.o.World.Scraper; err == nil && scraper != nil {
		var overridden map[string]string
		overridden, err = scraper.SetRaw(s.Raw)
		maps.Copy(a.Overridden, overridden)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settings = s.Version
	if err != nil {
		a.Error = err.Error()
		a.Effective = c.effectiveLocked()
		return a
	}
	interval := cmp.Or(time.Duration(s.IntervalSeconds)*time.Second, DefaultInterval)
	if own := c.o.Interval; own != 0 {
		if s.IntervalSeconds != 0 && own != interval {
			a.Overridden["interval_seconds"] = fmt.Sprint(int(own.Seconds()))
		}
		interval = own
	}
	if own := int64(c.o.QueueAge / time.Second); own != 0 && s.QueueAgeSeconds != 0 && own != s.QueueAgeSeconds {
		a.Overridden["queue_age_seconds"] = fmt.Sprint(own)
	}
	if own := c.o.QueueMax; own != 0 && s.QueueBytes != 0 && own != s.QueueBytes {
		a.Overridden["queue_bytes"] = fmt.Sprint(own)
	}
	if !sameRules(c.good.LogRules, s.LogRules) {
		c.logRules++
	}
	c.interval, c.families, c.good, c.told = interval, s.Families, s, true
	c.logs = s.Logs == nil || *s.Logs
	c.boundQueueLocked()
	a.Effective = c.effectiveLocked()
	return a
}

func sameRules(a, b *wire.LogRules) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

// effectiveLocked is what is in force.
func (c *Collector) effectiveLocked() *wire.Settings {
	e := c.good
	e.IntervalSeconds = int(c.interval / time.Second)
	logs := c.logs
	e.Logs = &logs
	if e.Families == nil {
		e.Families = catalogue.Families
	}
	follows := func(l Logs) bool {
		_, rules := l.(ruled)
		_, always := l.(alwaysOn) // of which messages are masked alone
		return rules && !always
	}
	if !slices.ContainsFunc(c.o.World.Logs, follows) {
		e.LogRules = nil // nothing here goes by them
	}
	e.Raw = nil
	if c.o.World.Scraper != nil {
		if cost := c.o.World.Scraper.Cost(); cost != nil {
			e.Raw = &wire.Raw{Families: cost.Families, Series: cost.Most}
		}
	}
	age, bytes := c.boundsLocked()
	e.QueueAgeSeconds, e.QueueBytes = int64(age/time.Second), bytes
	return &e
}

// boundsLocked are those of the queue: no more than the server accepts.
func (c *Collector) boundsLocked() (age time.Duration, bytes int64) {
	age = cmp.Or(c.o.QueueAge, time.Duration(c.good.QueueAgeSeconds)*time.Second, queue.DefaultMaxAge)
	if c.accept > 0 {
		age = min(age, max(c.accept, c.history))
	}
	return age, cmp.Or(c.o.QueueMax, c.good.QueueBytes, queue.DefaultMaxBytes)
}

func (c *Collector) boundQueueLocked() {
	if c.queue == nil {
		return
	}
	age, bytes := c.boundsLocked()
	c.queue.SetMaxAge(age)
	c.queue.SetMaxBytes(bytes)
	if c.scrapedQueue != nil {
		c.scrapedQueue.SetMaxAge(age)
		c.scrapedQueue.SetMaxBytes(bytes / 2)
	}
	if c.inventoryQueue != nil {
		c.inventoryQueue.SetMaxAge(age)
		c.inventoryQueue.SetMaxBytes(inventoryBytes(bytes))
	}
}

// keep writes the settings down for the next start.
func (c *Collector) keep(s wire.Settings) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	path := filepath.Join(c.o.QueueDir, settingsFile)
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// restore takes over what keep wrote. What cannot be read any more is left out:
// the server says it again.
func (c *Collector) restore() {
	raw, err := os.ReadFile(filepath.Join(c.o.QueueDir, settingsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var s wire.Settings
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err == nil {
		if a := c.set(s); a.Error != "" {
			err = errors.New(a.Error)
		}
	}
	if err != nil {
		c.log.Warn("last settings cannot be used", "err", err)
		return
	}
	c.computer.SetInterval(c.inForce())
	c.log.Info("last settings are in force until the server says others", "version", s.Version)
}

// wanted are the families to compute; nil for all. The core always is.
func (c *Collector) wanted() []catalogue.Family {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.families) == 0 || slices.Contains(c.families, catalogue.CoreFamily) {
		return c.families
	}
	return append([]catalogue.Family{catalogue.CoreFamily}, c.families...)
}

// firstSettingsWithin is how long after the server answered lines wait for the first
// settings: for good if its control stream cannot be reached though all else can.
const firstSettingsWithin = 30 * time.Second

// heldBack is a sink that takes nothing before the first settings are known: what is to
// be masked in lines, or not to leave the node at all, may be said there. Lines wait as
// while the server is away.
type heldBack struct {
	to   LogSink
	open <-chan struct{}
}

var _ LogSink = heldBack{}

// Send implements LogSink.
func (h heldBack) Send(ctx context.Context, b *wire.LogBatch) error {
	select {
	case <-h.open:
		return h.to.Send(ctx, b)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Collector) toldSettings() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.told
}

// firstSettings waits until the server's settings are known, by what it said or by those
// on the disk, or until it could have said them; false when ctx ended before.
func (c *Collector) firstSettings(ctx context.Context) bool {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	var answered time.Time
	for !c.toldSettings() {
		switch _, known := c.clock.offset(); {
		case !known:
		case answered.IsZero():
			answered = c.now()
		case c.now().Sub(answered) >= firstSettingsWithin:
			c.log.Warn("the server answers but does not say its settings; logs are sent by the local configuration alone", "waited_seconds", firstSettingsWithin.Seconds())
			c.mu.Lock()
			c.told = true
			c.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
		}
	}
	return true
}

func (c *Collector) rulesSeen() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.logRules
}

// untilRules waits until logs are not wanted any more, or by other rules.
func (c *Collector) untilRules(ctx context.Context, seen int) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for c.wantLogs() && c.rulesSeen() == seen {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
