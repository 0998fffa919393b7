package hold

import "sync"

// rooms bound how many calls wait at the same time, in all and of one agent.
type rooms struct {
	all, each int
	mu        sync.Mutex
	taken     int
	by        map[string]int
}

func newRooms(all, each int) *rooms { return &rooms{all: all, each: each, by: map[string]int{}} }

// enter takes a place, if there is one, and says whether it did.
func (r *rooms) enter(agent string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken == r.all || r.by[agent] == r.each {
		return false
	}
	r.taken++
	r.by[agent]++
	return true
}

// leave gives a place back.
func (r *rooms) leave(agent string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken--
	if r.by[agent]--; r.by[agent] == 0 {
		delete(r.by, agent)
	}
}
