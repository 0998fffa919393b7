package kube

import (
	"maps"
	"sync"
	"time"
)

// places are kept for AccessRequests that agents make themselves: between the last webhook
// and storage nothing else counts them. The zero value keeps none.
type places struct {
	mu sync.Mutex
	by map[string]place
}

// place is kept for an AccessRequest of an agent until it must be stored, or never will be.
type place struct {
	agent string
	until time.Time
}

// placeFor is longer than the API server takes from the last webhook to storage. A place is
// given up sooner where the watch shows what it was for.
const placeFor = 10 * time.Second

// keep keeps a place for the name, and gives up those whose time is over.
func (p *places) keep(name, agent string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.by, func(_ string, kept place) bool { return !now.Before(kept.until) })
	if p.by == nil {
		p.by = map[string]place{}
	}
	p.by[name] = place{agent: agent, until: now.Add(placeFor)}
}

// give gives up the place of a name.
func (p *places) give(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.by, name)
}

// kept are the names for which there are places, of all agents and of one.
func (p *places) kept(agent string, now time.Time) (all, own map[string]bool) {
	all, own = map[string]bool{}, map[string]bool{}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, kept := range p.by {
		if !now.Before(kept.until) {
			continue
		}
		all[name] = true
		if kept.agent == agent {
			own[name] = true
		}
	}
	return all, own
}
