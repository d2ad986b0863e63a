package serve

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

const (
	// catalogAge is how old a catalog may be.
	catalogAge = 2 * time.Second
	// afterlife is how long what a tag stood for before can be had by digest, for
	// clients that have asked for the tag and not come to the layers yet.
	afterlife = time.Hour
)

// entry is a repository of the registry. It is not changed.
type entry struct {
	// tags has for each tag what composefsrepo.ImageByDigest finds its image by.
	tags map[string]digest.Digest
	// seen has when an image was last known to be here, those of tags included.
	seen map[digest.Digest]time.Time
}

// keys returns what the entry's images are found by, those of tags first.
func (e *entry) keys() []digest.Digest {
	tagged := map[digest.Digest]bool{}
	for _, key := range e.tags {
		tagged[key] = true
	}
	keys := slices.Sorted(maps.Keys(tagged))
	for _, key := range slices.Sorted(maps.Keys(e.seen)) {
		if !tagged[key] {
			keys = append(keys, key)
		}
	}
	return keys
}

// catalog is what the registry has, by name. It is not changed.
type catalog struct {
	made    time.Time
	entries map[string]*entry
	aliases map[string]string // names without a host to those with
}

// find returns the repository of that name, or of that name without a host. A
// mirror is asked for such names; where the client says of which host, that decides.
func (c *catalog) find(name, host string) *entry {
	if host != "" {
		if e := c.entries[host+"/"+name]; e != nil {
			return e
		}
	}
	if e := c.entries[name]; e != nil {
		return e
	}
	return c.entries[c.aliases[name]]
}

// names returns the names of the repositories, sorted: those that clients can ask
// for, in full where they can ask for that.
func (c *catalog) names() []string {
	alias := map[string]string{}
	for short, full := range c.aliases {
		alias[full] = short
	}
	var names []string
	for name := range c.entries {
		if !canBeAsked(name) {
			name = alias[name]
		}
		if name != "" && canBeAsked(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// add adds an image, unless the tag is there already.
func (c *catalog) add(n named, key digest.Digest) {
	e := c.entries[n.repository]
	if e == nil {
		e = &entry{tags: map[string]digest.Digest{}, seen: map[digest.Digest]time.Time{}}
		c.entries[n.repository] = e
	}
	if _, ok := e.tags[n.tag]; n.tag != "" && !ok {
		e.tags[n.tag] = key
	}
	e.seen[key] = c.made
}

// inherit adds what the catalog before had seen, while that has its afterlife.
func (c *catalog) inherit(before *catalog) {
	if before == nil {
		return
	}
	for name, old := range before.entries {
		e := c.entries[name]
		for key, seen := range old.seen {
			if e == nil || c.made.Sub(seen) > afterlife {
				continue
			}
			if _, ok := e.seen[key]; !ok {
				e.seen[key] = seen
			}
		}
	}
}

// shorten finds the names that are unambiguous without a host.
func (c *catalog) shorten() {
	c.aliases = map[string]string{}
	ambiguous := map[string]bool{}
	for full := range c.entries {
		short, ok := withoutHost(full)
		if !ok {
			continue
		}
		if _, ok := c.aliases[short]; ok {
			ambiguous[short] = true
		}
		c.aliases[short] = full
	}
	for short := range ambiguous {
		delete(c.aliases, short)
	}
}

// catalogs makes a catalog when one is asked for and the last is too old.
type catalogs struct {
	repository  *repository
	only        patterns
	deployments func() (*bootc.Host, error) // nil where there are none

	report func(error)

	turn chan struct{} // taken by whoever uses what follows
	last *catalog
	// keys has what a deployment's image was found by, by the deployment's ID.
	keys map[string]deployed
	// trouble is why there were no deployments, as it was reported.
	trouble string
}

// deployed is what a deployment's image was found by.
type deployed struct {
	key   digest.Digest
	found time.Time
}

func newCatalogs(r *repository, only patterns, deployments func() (*bootc.Host, error), report func(error)) *catalogs {
	return &catalogs{repository: r, only: only, deployments: deployments, report: report, turn: make(chan struct{}, 1), keys: map[string]deployed{}}
}

// get returns a catalog of now. The error is that of opening the repository or of
// listing its tags.
func (c *catalogs) get(ctx context.Context) (*catalog, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if c.last != nil && time.Since(c.last.made) < catalogAge {
		return c.last, nil
	}
	repo, err := c.repository.take(ctx)
	if err != nil {
		return nil, err
	}
	defer c.repository.giveBack()
	next, err := c.build(ctx, repo)
	if err != nil {
		return nil, err
	}
	next.inherit(c.last)
	next.shorten()
	c.last = next
	return next, nil
}

func (c *catalogs) build(ctx context.Context, repo *composefsrepo.Repo) (*catalog, error) {
	next := &catalog{made: time.Now(), entries: map[string]*entry{}}
	tags, err := repo.Tags()
	if err != nil {
		return nil, err
	}
	for _, tag := range tags {
		n, ok := parseTag(tag)
		if !ok || !c.only.match(n) {
			continue
		}
		if key, err := repo.Resolve(tag); err == nil { // else it is gone, or a list of manifests
			next.add(n, key)
		}
	}
	if c.deployments != nil {
		c.addDeployments(ctx, repo, next)
	}
	return next, nil
}

// addDeployments adds the images of the host's deployments, by the names in their
// origins and by their states. Tags of the repository come first.
func (c *catalogs) addDeployments(ctx context.Context, repo *composefsrepo.Repo, next *catalog) {
	host, err := c.deployments()
	if err != nil {
		if err := fmt.Errorf("looking for deployments: %w", err); err.Error() != c.trouble {
			c.trouble = err.Error()
			c.report(err)
		}
		return
	}
	c.trouble = ""
	for i := range host.Deployments {
		d := &host.Deployments[i]
		var names []named
		if n, ok := parseTag(d.Image.Name); ok && c.only.match(n) {
			names = append(names, n)
		}
		if n := (named{deploymentRepository, string(d.State)}); isUnique(d.State) && c.only.match(n) {
			names = append(names, n)
		}
		if len(names) == 0 {
			continue
		}
		key, err := c.keyOf(ctx, repo, host, d)
		if err != nil {
			continue // it is gone, or damaged
		}
		for _, n := range names {
			next.add(n, key)
		}
	}
}

// keyOf returns what the image of a deployment is found by. Some are not found by
// what the origin says, but by a look at many others, so it is remembered.
func (c *catalogs) keyOf(ctx context.Context, repo *composefsrepo.Repo, host *bootc.Host, d *bootc.Deployment) (digest.Digest, error) {
	if known, ok := c.keys[d.ID]; ok && time.Since(known.found) < imageAge {
		return known.key, nil
	}
	delete(c.keys, d.ID)
	image, err := host.OpenImage(ctx, repo, d)
	if err != nil {
		return "", err
	}
	c.keys[d.ID] = deployed{image.Name(), time.Now()}
	return image.Name(), nil
}

// deploymentRepository is where deployments are tagged by their states. It is
// where bootc, too, puts the image of the running system by default.
const deploymentRepository = "localhost/bootc"

// isUnique tells whether at most one deployment is in a state.
func isUnique(s bootc.State) bool {
	return s == bootc.Booted || s == bootc.Staged || s == bootc.Rollback
}
