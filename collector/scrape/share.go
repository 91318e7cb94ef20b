package scrape

import (
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	promscrape "github.com/prometheus/prometheus/scrape"
)

const paramTarget = model.ParamLabelPrefix + "target" // what a Probe asks about

// sharedJob is what was kept of a job's targets, so that a share is made anew only
// where something changed.
type sharedJob struct {
	of     []*targetgroup.Group
	state  string
	groups []*targetgroup.Group
	others map[string]bool // keys of the targets that are somebody else's
}

// share leaves each job the targets that are this process's. A job whose targets
// are all somebody else's stays, without any.
func (s *Scraper) share(jobs []Job) []Job {
	if s.o.Share == nil {
		return jobs
	}
	state := s.o.Share.State()
	out := make([]Job, len(jobs))
	for i, j := range jobs {
		m, ok := s.shared[j.Config]
		if !ok || m.state != state || !sameGroups(m.of, j.Groups) {
			m = s.divide(j, state)
			if s.shared == nil {
				s.shared = map[*config.ScrapeConfig]sharedJob{}
			}
			s.shared[j.Config] = m
		}
		j.Groups = m.groups
		out[i] = j
	}
	return out
}

// sameGroups: sources give the same groups while nothing changed.
func sameGroups(a, b []*targetgroup.Group) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func (s *Scraper) divide(j Job, state string) sharedJob {
	m := sharedJob{of: j.Groups, state: state, others: map[string]bool{}}
	for _, g := range j.Groups {
		c := *g
		c.Targets = nil
		for _, t := range g.Targets {
			get := func(name model.LabelName) string {
				if v, ok := t[name]; ok {
					return string(v)
				}
				return string(g.Labels[name])
			}
			path := get(model.MetricsPathLabel)
			if path == "" {
				path = j.Config.MetricsPath
			}
			key := targetKey(j.Config.JobName, get(model.AddressLabel), path, get(paramTarget))
			if s.o.Share.Owns(j.Family, key) {
				c.Targets = append(c.Targets, t)
			} else {
				m.others[key] = true
			}
		}
		m.groups = append(m.groups, &c)
	}
	return m
}

// targetKey names a target by what it is, not by its labels: those of its pod
// change, and reach the processes at different times.
func targetKey(job, address, path, about string) string {
	return job + "\x00" + address + "\x00" + path + "\x00" + about
}

// handOver keeps targets that are somebody else's now from ending their series:
// the other process goes on with them.
func (s *Scraper) handOver(jobs []Job) {
	if s.o.Share == nil {
		return
	}
	asked := map[*config.ScrapeConfig]bool{}
	active := s.manager.TargetsActive()
	b := labels.NewBuilder(labels.EmptyLabels())
	for _, j := range jobs {
		asked[j.Config] = true
		m, ok := s.shared[j.Config]
		if !ok || len(m.others) == 0 {
			continue
		}
		var moved []*promscrape.Target
		for _, t := range active[j.Config.JobName] {
			ls := t.DiscoveredLabels(b)
			if m.others[targetKey(j.Config.JobName, ls.Get(model.AddressLabel), ls.Get(model.MetricsPathLabel), ls.Get(paramTarget))] {
				moved = append(moved, t)
			}
		}
		if len(moved) > 0 {
			s.manager.DisableEndOfRunStalenessMarkers(j.Config.JobName, moved)
		}
	}
	for c := range s.shared {
		if !asked[c] {
			delete(s.shared, c)
		}
	}
}
