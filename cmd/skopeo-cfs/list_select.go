package main

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// sorts has the values of list's --sort: what is compared first. Times and sizes go
// from the latest and the largest on.
var sorts = map[string]func(a, b listed) int{
	"tag":     func(a, b listed) int { return 0 },
	"id":      func(a, b listed) int { return cmp.Compare(a.ID, b.ID) },
	"created": func(a, b listed) int { return created(b).Compare(created(a)) },
	"layers":  func(a, b listed) int { return cmp.Compare(b.Layers, a.Layers) },
	"size":    func(a, b listed) int { return cmp.Compare(b.Size, a.Size) },
	"shared":  func(a, b listed) int { return cmp.Compare(b.Shared, a.Shared) },
	"unique":  func(a, b listed) int { return cmp.Compare(b.Unique, a.Unique) },
}

// sortNames lists the values of --sort.
func sortNames() string { return strings.Join(slices.Sorted(maps.Keys(sorts)), ", ") }

// sortList sorts the images, those that are equal by their tags.
func sortList(images []listed, compare func(a, b listed) int) {
	slices.SortFunc(images, func(a, b listed) int { return cmp.Or(compare(a, b), cmp.Compare(a.Tag, b.Tag)) })
}

// created returns when an image was created, the zero time if that is not known.
func created(l listed) time.Time {
	if l.Created == nil {
		return time.Time{}
	}
	return *l.Created
}

// filterKinds has the filters of list: given a value and all images, what an image
// must be.
var filterKinds = map[string]func(value string, all []listed) (func(listed) bool, error){
	"reference": filterReference,
	"id":        func(value string, _ []listed) (func(listed) bool, error) { return hasDigest(value, idOf), nil },
	"digest":    func(value string, _ []listed) (func(listed) bool, error) { return hasDigest(value, digestOf), nil },
	"label":     filterLabel,
	"before":    filterBefore,
	"since":     filterSince,
	"until":     filterUntil,
}

// filterList returns the images that match, for each kind of filter that is given,
// one of that kind.
func filterList(images []listed, filters []string) ([]listed, error) {
	byKind := map[string][]func(listed) bool{}
	for _, filter := range filters {
		kind, value, ok := strings.Cut(filter, "=")
		newFilter := filterKinds[kind]
		if !ok || newFilter == nil {
			return nil, fmt.Errorf("--filter %q: must be NAME=VALUE, NAME being one of %s", filter, strings.Join(slices.Sorted(maps.Keys(filterKinds)), ", "))
		}
		match, err := newFilter(value, images)
		if err != nil {
			return nil, fmt.Errorf("--filter %q: %w", filter, err)
		}
		byKind[kind] = append(byKind[kind], match)
	}
	matching := []listed{}
	for _, l := range images {
		matches := true
		for _, any := range byKind {
			matches = matches && slices.ContainsFunc(any, func(match func(listed) bool) bool { return match(l) })
		}
		if matches {
			matching = append(matching, l)
		}
	}
	return matching, nil
}

func filterReference(pattern string, _ []listed) (func(listed) bool, error) {
	match, err := matchTags(pattern)
	return func(l listed) bool { return match(l.Tag) }, err
}

// matchTags returns what tells whether a tag matches a pattern, as of path.Match.
func matchTags(pattern string) (func(tag string) bool, error) {
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, fmt.Errorf("pattern %.300q: %w", pattern, err)
	}
	return func(tag string) bool {
		matches, _ := path.Match(pattern, tag) // the pattern is well-formed
		return matches
	}, nil
}

func idOf(l listed) digest.Digest     { return l.ID }
func digestOf(l listed) digest.Digest { return l.Digest }

// hasDigest matches images one digest of which begins with a text, with or without
// its algorithm.
func hasDigest(begin string, of func(listed) digest.Digest) func(listed) bool {
	return func(l listed) bool {
		_, encoded, _ := strings.Cut(of(l).String(), ":")
		return strings.HasPrefix(of(l).String(), begin) || strings.HasPrefix(encoded, begin)
	}
}

func filterLabel(label string, _ []listed) (func(listed) bool, error) {
	key, value, hasValue := strings.Cut(label, "=")
	return func(l listed) bool {
		got, ok := l.Labels[key]
		return ok && (!hasValue || got == value)
	}, nil
}

// createdOf returns when the image with a tag was created.
func createdOf(tag string, all []listed) (time.Time, error) {
	for _, l := range all {
		if l.Tag == tag && l.Created != nil {
			return *l.Created, nil
		}
	}
	return time.Time{}, fmt.Errorf("no image with this tag has a known creation date")
}

func filterBefore(tag string, all []listed) (func(listed) bool, error) {
	then, err := createdOf(tag, all)
	return func(l listed) bool { return l.Created != nil && l.Created.Before(then) }, err
}

func filterSince(tag string, all []listed) (func(listed) bool, error) {
	then, err := createdOf(tag, all)
	return func(l listed) bool { return l.Created != nil && l.Created.After(then) }, err
}

func filterUntil(value string, _ []listed) (func(listed) bool, error) {
	then, err := time.Parse(time.RFC3339, value)
	if ago, durationErr := time.ParseDuration(value); durationErr == nil {
		then, err = time.Now().Add(-ago), nil
	}
	if err != nil {
		return nil, fmt.Errorf("must be a time as in 2026-01-31T12:00:00Z, or a duration as in 24h")
	}
	return func(l listed) bool { return l.Created != nil && l.Created.Before(then) }, nil
}
