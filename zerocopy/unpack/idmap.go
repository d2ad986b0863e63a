package unpack

import "fmt"

// IDMap maps Size IDs from ContainerID on, as the tar has them, to those from
// HostID on, as the files get them.
type IDMap struct{ ContainerID, HostID, Size int }

// idMaps are the maps of users and of groups. Without a map, IDs stay what they
// are.
type idMaps struct{ uids, gids []IDMap }

func (m idMaps) empty() bool { return len(m.uids) == 0 && len(m.gids) == 0 }

// toHost maps an owner.
func (m idMaps) toHost(uid, gid int) (int, int, error) {
	hostUID, ok := mapID(uid, m.uids)
	if !ok {
		return 0, 0, fmt.Errorf("its user %d is not in the ID map", uid)
	}
	hostGID, ok := mapID(gid, m.gids)
	if !ok {
		return 0, 0, fmt.Errorf("its group %d is not in the ID map", gid)
	}
	return hostUID, hostGID, nil
}

// root returns the owner that containers/storage gives to directories that the
// tar has no entry for: root's, or -1 for "as it is" where no map has root.
func (m idMaps) root() (uid, gid int) {
	uid, uidFound := mapRoot(m.uids)
	gid, gidFound := mapRoot(m.gids)
	if !uidFound || !gidFound {
		return -1, -1
	}
	return uid, gid
}

// mapRoot maps root. The one ID of a map that has no more stands for it.
func mapRoot(maps []IDMap) (int, bool) {
	if len(maps) == 1 && maps[0].Size == 1 {
		return maps[0].HostID, true
	}
	return mapID(0, maps)
}

func mapID(id int, maps []IDMap) (int, bool) {
	if maps == nil {
		return id, true
	}
	for _, m := range maps {
		if id >= m.ContainerID && id <= m.ContainerID+m.Size-1 {
			return m.HostID + (id - m.ContainerID), true
		}
	}
	return 0, false
}
