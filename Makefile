# Tags that keep gpgme, btrfs and devicemapper out; cgo stays on, for the C code
# that makes user namespaces.
TAGS := containers_image_openpgp exclude_graphdriver_btrfs exclude_graphdriver_devicemapper
GO ?= go
GOFLAGS_TAGS := -tags '$(TAGS)'
PREFIX ?= /usr/local
FUZZTIME ?= 30s
RACE ?= -race

.PHONY: all build install test lint fuzz demo bench interop clean

all: build

build:
	$(GO) build $(GOFLAGS_TAGS) -o bin/skopeo-cfs ./cmd/skopeo-cfs

install: build
	install -D -m 755 bin/skopeo-cfs $(DESTDIR)$(PREFIX)/bin/skopeo-cfs

test:
	$(GO) test $(GOFLAGS_TAGS) $(RACE) ./...

# gofmt, go vet, and staticcheck among what .golangci.yml names.
lint:
	@test -z "$$(gofmt -l .)" || { echo "not formatted:"; gofmt -l .; exit 1; }
	$(GO) vet $(GOFLAGS_TAGS) ./...
	$(GO) tool staticcheck $(GOFLAGS_TAGS) ./...
