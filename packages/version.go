package packages

import (
	"cmp"

	apk "github.com/knqyf263/go-apk-version"
	deb "github.com/knqyf263/go-deb-version"
	rpm "github.com/knqyf263/go-rpm-version"
)

// CompareVersions returns -1, 0 or 1 as version a of a package is older than b, as
// old, or newer, as the kind's package manager orders them. Versions that are none to
// it are ordered as texts are.
func (k Kind) CompareVersions(a, b string) int {
	switch k {
	case RPM, ALPM: // pacman's order is rpm's
		return rpm.NewVersion(a).Compare(rpm.NewVersion(b))
	case Deb:
		v, err := deb.NewVersion(a)
		w, err2 := deb.NewVersion(b)
		if err == nil && err2 == nil {
			return cmp.Compare(v.Compare(w), 0)
		}
	case APK:
		v, err := apk.NewVersion(a)
		w, err2 := apk.NewVersion(b)
		if err == nil && err2 == nil {
			return v.Compare(w)
		}
	}
	return cmp.Compare(a, b)
}
