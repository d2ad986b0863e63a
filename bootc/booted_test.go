package bootc

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

var (
	idA = strings.Repeat("0a", 64)
	idB = strings.Repeat("0b", 64)
	idC = strings.Repeat("0c", 64)
)

func TestIDOfCommandLine(t *testing.T) {
	for line, want := range map[string]string{
		"root=UUID=0 composefs=" + idA + " rw":                                           idA,
		"composefs=?" + idA + "\n":                                                       idA,
		"a=\"x composefs=" + idB + "\" composefs=" + idA:                                 idA,
		"composefs=\"" + idA + "\"":                                                      idA,
		"composefs=" + idA + " composefs=" + idB:                                         idA,
		"composefs=x composefs=" + idA:                                                   idA,
		"composefs=" + idB + " composefs.digest=v1-sha512-12:" + idA:                     idA,
		"composefs.digest=?v1-sha512-12:" + idA:                                          idA,
		"composefs.digest=v1-sha512-12:" + idB + " composefs.digest=v2-sha512-12:" + idA: idB,
		"composefs.digest=v1-sha256-12:" + idA[:64] + " composefs=" + idA:                idA, // of another algorithm
		"composefs.digest=v1-sha512-16:" + idB + " composefs=" + idA:                     idA,
		"composefs.digest=v1-sha256-12:" + idB + " composefs=" + idA:                     idA,
		"composefs.digest=v1-sha512-12:" + idB[:64] + " composefs=" + idA:                idA,
		"composefs.digest=v1-sha1-12:" + idB + " composefs=" + idA:                       idA,
		"composefs.digest=sha512-12:" + idB + " composefs=" + idA:                        idA,
		"composefs.digest=vx-sha512-12:" + idB + " composefs=" + idA:                     idA,
		"composefs.digest=" + idB + " composefs=" + idA:                                  idA,
		"composefs.digest=x composefs=" + idA:                                            idA,
		"notcomposefs=" + idA:                                                            "",
		"composefs":                                                                      "",
		"composefs=":                                                                     "",
		"composefs=" + strings.ToUpper(idA):                                              "",
		"composefs=" + idA[:100]:                                                         "",
		"ostree=/ostree/boot.1/default/0 root=UUID=0":                                    "",
		"":                                  "",
		"a=\"open composefs=" + idA:         "",
		"rd.x=1\tcomposefs=" + idA + "\trw": idA,
		"-- composefs=" + idA:               idA,
		"composefs==" + idA + " composefs=??" + idA + " composefs=" + "\x00": "",
	} {
		assert.Equal(t, want, firstOf(idsOfCommandLine(line, fsverity.SHA512)), "%q", line)
	}
}

// firstOf returns the first ID, "" if there is none.
func firstOf(ids []string) string { return (&Host{}).choose(ids) }

// The first that there is a deployment of is the one.
func TestIDsOfCommandLine(t *testing.T) {
	const line = "composefs=%s composefs.digest=v1-sha256-12:%.64s composefs.digest=?v1-sha512-12:%s composefs.digest=v2-sha512-12:%s composefs=%s"
	ids := idsOfCommandLine(fmt.Sprintf(line, idA, idA, idB, idC, idB), fsverity.SHA512)
	assert.Equal(t, []string{idB, idC, idA}, ids)
	assert.Equal(t, []string{idA[:64], idB, idC, idA}, idsOfCommandLine(fmt.Sprintf(line, idA, idA, idB, idC, idB), fsverity.Algorithm{}))
	for want, deployments := range map[string][]string{idB: {idA, idC, idB}, idC: {idA, idC}, idA: {idA}} {
		h := &Host{}
		for _, id := range deployments {
			h.Deployments = append(h.Deployments, Deployment{ID: id})
		}
		assert.Equal(t, want, h.choose(ids))
	}
	assert.Equal(t, idB, (&Host{}).choose(ids))
	assert.Empty(t, (&Host{}).choose(nil))
}

func TestIDOfMountSource(t *testing.T) {
	for source, want := range map[string]string{
		"composefs:" + idA:           idA,
		"transient:composefs=" + idA: idA,
		"composefs=" + idA:           idA,
		"composefs:?" + idA:          idA,
		"composefs":                  "", // ostree's
		"composefs:":                 "",
		"composefs:x":                "",
		"composefs " + idA:           "",
		"overlay":                    "",
		"/dev/composefs:" + idA:      "",
		"":                           "",
	} {
		assert.Equal(t, want, idOfMountSource(source), "%q", source)
	}
}

func TestIDOfMounts(t *testing.T) {
	const rest = " rw - overlay "
	for name, test := range map[string]struct{ table, want string }{
		"the root":     {"1 0 0:1 / /" + rest + "composefs:" + idA + " rw\n", idA},
		"the last":     {"1 0 0:1 / /" + rest + "composefs:" + idA + " rw\n2 1 0:1 / /" + rest + "composefs:" + idB + " rw\n", idB},
		"covered":      {"1 0 0:1 / /" + rest + "composefs:" + idA + " rw\n2 1 0:1 / /" + rest + "overlay rw\n", ""},
		"not the root": {"1 0 0:1 / /mnt" + rest + "composefs:" + idA + " rw\n", ""},
		"nothing":      {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := idOfMounts(strings.NewReader(test.table))
			require.NoError(t, err)
			assert.Equal(t, test.want, id)
		})
	}
	_, err := idOfMounts(strings.NewReader("garbage\n"))
	assert.Error(t, err)
}

func TestStaged(t *testing.T) {
	s, err := parseStaged([]byte(`{"depl_id":"` + idA + `","finalization_locked":true}`))
	require.NoError(t, err)
	assert.Equal(t, staged{ID: idA, Locked: true}, s)
	for _, text := range []string{"", "{}", `{"depl_id":"x"}`, `{"depl_id":"../x"}`, `[]`} {
		_, err := parseStaged([]byte(text))
		assert.Error(t, err, text)
	}
}

// checkID fails if text is neither empty nor an ID.
func checkID(t *testing.T, text string) {
	if _, err := fsverity.Parse(text); text != "" && err != nil {
		t.Errorf("accepted ID %q", text)
	}
}

func FuzzCommandLine(f *testing.F) {
	f.Add("root=UUID=0 composefs=?" + idA + " \"x y\"")
	f.Add("composefs.digest=v1-sha512-12:" + idA)
	f.Fuzz(func(t *testing.T, line string) {
		for _, algorithm := range []fsverity.Algorithm{{}, fsverity.SHA256, fsverity.SHA512} {
			for _, id := range idsOfCommandLine(line, algorithm) {
				checkID(t, id)
			}
		}
	})
}

func FuzzMountSource(f *testing.F) {
	f.Add("transient:composefs=" + idA)
	f.Fuzz(func(t *testing.T, source string) { checkID(t, idOfMountSource(source)) })
}

func FuzzMounts(f *testing.F) {
	f.Add("1 0 0:1 / / rw shared:1 - overlay composefs:" + idA + " rw\n")
	f.Fuzz(func(t *testing.T, table string) {
		id, _ := idOfMounts(strings.NewReader(table))
		checkID(t, id)
	})
}

func FuzzStaged(f *testing.F) {
	f.Add([]byte(`{"depl_id":"` + idA + `","finalization_locked":false}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseStaged(data)
		if err == nil && s.ID == "" {
			t.Error("no ID and no error")
		}
		checkID(t, s.ID)
	})
}
