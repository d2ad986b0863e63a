package unpack

import "context"

// inode is a regular file that is under way, under one or more names.
type inode struct {
	last <-chan struct{} // closed when the last job that concerns it is done
}

func (i *inode) done() bool {
	select {
	case <-i.last:
		return true
	default:
		return false
	}
}

// inodes are the files under way, by their names. Once an inode is done it stays
// that: no worker gets a job that concerns it any more, so it does not matter when
// it is forgotten, and whether all of its names are at once.
type inodes struct {
	all   map[pathHash]*inode
	limit int // forget those that are done when there are more
}

func newInodes() *inodes {
	return &inodes{all: map[pathHash]*inode{}, limit: 4 * queueLength}
}

// at returns the inode of a name, nil if there is none under way.
func (i *inodes) at(name pathHash) *inode {
	node := i.all[name]
	if node == nil || node.done() {
		return nil
	}
	return node
}

// add notes a name of an inode.
func (i *inodes) add(name pathHash, node *inode) {
	if len(i.all) >= i.limit {
		for name, node := range i.all {
			if node.done() {
				delete(i.all, name)
			}
		}
		// With many workers, more are under way than the queue holds.
		i.limit = max(4*queueLength, 2*len(i.all))
	}
	i.all[name] = node
}

// wait waits until all are done.
func (i *inodes) wait(ctx context.Context) error {
	for _, node := range i.all {
		select {
		case <-node.last:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
