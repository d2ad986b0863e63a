package serve

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// accepted are the media types, or encodings, that a request says it takes, and how
// much it wants each: 0 for not at all.
type accepted map[string]float64

// parseAccept parses the values of an Accept or Accept-Encoding header.
func parseAccept(values []string) accepted {
	a := accepted{}
	for _, item := range strings.Split(strings.Join(values, ","), ",") {
		name, params, err := mime.ParseMediaType(item)
		if err != nil {
			continue
		}
		quality := 1.0
		if q, ok := params["q"]; ok {
			if quality, err = strconv.ParseFloat(q, 64); err != nil {
				continue
			}
		}
		a[name] = quality
	}
	return a
}

// takesManifest tells whether a client takes manifests of a media type. One that
// says nothing does, and so does one that asks for whatever there is, or for JSON.
func takesManifest(header http.Header, mediaType string) bool {
	a := parseAccept(header.Values("Accept"))
	if len(a) == 0 {
		return true
	}
	if quality, ok := a[mediaType]; ok {
		return quality > 0
	}
	return a["*/*"] > 0 || a["application/*"] > 0 || a["application/json"] > 0
}

// takesZstd tells whether a client takes content that is encoded with zstd and
// wants it as much as any other encoding.
func takesZstd(header http.Header) bool {
	a := parseAccept(header.Values("Accept-Encoding"))
	return a["zstd"] > 0 && a["zstd"] >= a["identity"]
}
