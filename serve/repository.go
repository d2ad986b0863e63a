package serve

import (
	"context"
	"sync"
	"time"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// How long the repository is kept open, and how long it is then left alone: a
// collection of garbage, which waits for its lock, comes in between.
const (
	leasePeriod = 3 * time.Second
	leasePause  = 20 * time.Millisecond
)

// repository is a composefs repository that is opened again and again, since an
// open one can't be collected. Whoever uses it takes it for as long as it takes to
// open a file or to read a manifest, never while a client is waited for.
type repository struct {
	path string
	ctx  context.Context // ends the waiting for its lock

	mu      sync.Mutex
	current *composefsrepo.Repo
	users   int
	due     bool          // the current one is to be closed
	idle    chan struct{} // closed when a due one has no users any more
	renewal *renewal      // nil where none is under way
}

// renewal is the opening of a repository, which several wait for.
type renewal struct {
	done chan struct{}
	err  error
}

// take returns the open repository, which the caller gives back. The error is that
// of composefsrepo.Open, or of ctx.
func (r *repository) take(ctx context.Context) (*composefsrepo.Repo, error) {
	for {
		if err := r.ctx.Err(); err != nil {
			return nil, err
		}
		r.mu.Lock()
		if r.current != nil && !r.due {
			r.users++
			repo := r.current
			r.mu.Unlock()
			return repo, nil
		}
		if r.renewal == nil {
			r.renewal = &renewal{done: make(chan struct{})}
			go r.renew(r.renewal)
		}
		pending := r.renewal
		r.mu.Unlock()
		select {
		case <-pending.done:
			if pending.err != nil {
				return nil, pending.err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// giveBack ends the use that take began.
func (r *repository) giveBack() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users--; r.users == 0 && r.due {
		r.closeCurrent()
	}
}

// closeCurrent closes a repository without users. r.mu is held.
func (r *repository) closeCurrent() {
	r.current.Close()
	r.current, r.due = nil, false
	close(r.idle)
}

// renew opens the repository, when its users have given back the one before.
func (r *repository) renew(n *renewal) {
	r.mu.Lock()
	idle := r.idle
	if r.current == nil {
		idle = nil
	}
	r.mu.Unlock()
	if idle != nil {
		<-idle // soon: nobody keeps it
		time.Sleep(leasePause)
	}
	repo, err := composefsrepo.Open(r.ctx, r.path, nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && r.ctx.Err() != nil {
		repo.Close()
		err = r.ctx.Err()
	}
	if err == nil {
		r.current, r.due, r.idle = repo, false, make(chan struct{})
		time.AfterFunc(leasePeriod, func() { r.retire(repo) })
	}
	n.err = err
	r.renewal = nil
	close(n.done)
}

// retire has a repository closed as soon as nobody uses it.
func (r *repository) retire(repo *composefsrepo.Repo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != repo {
		return
	}
	if r.due = true; r.users == 0 {
		r.closeCurrent()
	}
}

// close closes the repository as soon as nobody uses it. Its context is done.
func (r *repository) close() {
	r.mu.Lock()
	current := r.current
	r.mu.Unlock()
	if current != nil {
		r.retire(current)
	}
}
