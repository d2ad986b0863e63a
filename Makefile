# These keep gpgme, btrfs and devicemapper out. cgo stays on, for the C code that
# makes user namespaces.
TAGS := containers_image_openpgp exclude_graphdriver_btrfs exclude_graphdriver_devicemapper$(if $(SQLITE), $(SQLITE))
# SQLITE=libsqlite3 has the system's SQLite linked, instead of one that takes more than
# a minute to compile.
SQLITE ?=

GO ?= go
SHELL := /bin/bash
PREFIX ?= /usr/local
# How long each fuzz target runs.
FUZZTIME ?= 30s

# How long each test of reliability that can be repeated runs.
RELIABILITYTIME ?= 1m

.PHONY: build install docs man completions tags deb rpm dist package-check licenses vulncheck newest test race podmanio podmanio-build podmanio-test podmanio-sources podmanio-check reliability link-test vm-test interop conformance bench api manual lint fuzz demo clean

# What is built with these has the same bytes wherever the same commit is built with
# the same Go and C compiler. Not used while developing: what the tests have compiled
# would be compiled again.
REPRODUCIBLE := -trimpath -buildvcs=false

# The command is built from the module for podman 5.7 and later, which
# internal/podmanio makes of this tree, and with the libraries of the newest; with
# PODMAN=5 from this tree, for podman up to 5.6. In that module's own tree, which
# has newest.mod, all is done with those libraries.
V2 := build/podmanio
V2FLAGS := -modfile=newest.mod
# Of the command's tests, those of where the libraries have a say.
V2TESTS := ^(TestDocumentedProgram|TestPodmanHasTheImages|TestPodmanUsesTheImage|TestPolicyIsObeyed|TestRearchive|TestCopyOfADeployment|TestRootlessCopyToStorage|TestCopyToUser|TestUnifiedStorageOfAnotherHost)$$
ifneq ($(wildcard newest.mod),)
export GOFLAGS := $(shell $(GO) env GOFLAGS) -modfile=$(CURDIR)/newest.mod
else ifneq ($(PODMAN),5)
BUILDFLAGS := -C $(V2) $(V2FLAGS)
# What the go command does not find out of a module that is no repository.
VERSION ?= $(if $(wildcard .git),$(shell git describe --tags --always --dirty))
DISTTREE := $(V2)
build dist: podmanio-sources
endif

# In the tree that make dist has made, a file says the version, and what is needed of
# other modules is in vendor.
ifneq ($(wildcard VERSION),)
VERSION ?= $(shell cat VERSION)
BUILDFLAGS += $(REPRODUCIBLE)
endif

# For builds with flags of their own.
tags:
	@echo '$(TAGS)'

build:
	$(GO) build $(BUILDFLAGS) -tags '$(TAGS)' -ldflags '$(strip $(GO_LDFLAGS) $(if $(VERSION),-X main.stated=$(VERSION)))' \
		-o '$(CURDIR)/bin/skopeo-cfs' ./cmd/skopeo-cfs

# The command, its completions for bash, zsh and fish, and its manual pages.
SHARE = $(DESTDIR)$(PREFIX)/share
install: build docs
	install -D -m 755 bin/skopeo-cfs '$(DESTDIR)$(PREFIX)/bin/skopeo-cfs'
	install -D -m 644 bin/completions/bash '$(SHARE)/bash-completion/completions/skopeo-cfs'
	install -D -m 644 bin/completions/zsh '$(SHARE)/zsh/site-functions/_skopeo-cfs'
	install -D -m 644 bin/completions/fish '$(SHARE)/fish/vendor_completions.d/skopeo-cfs.fish'
	install -d '$(SHARE)/man/man1'
	install -m 644 bin/man/*.1 '$(SHARE)/man/man1'

# The manual pages, made of docs/*.1.md, and the completions, in bin, which the command
# prints. The tree that
# make dist has made has the pages already. The second module's newest.mod has no
# tools.
MD2MAN ?= $(if $(wildcard newest.mod),GOFLAGS= $(GO) run github.com/cpuguy83/go-md2man/v2@v2.0.7,$(GO) tool go-md2man)
docs: build man completions

completions:
	mkdir -p bin/completions
	for shell in bash zsh fish; do \
		bin/skopeo-cfs completion $$shell >bin/completions/$$shell || exit 1; \
	done

man:
	mkdir -p bin/man
	for page in docs/*.1.md; do \
		to="bin/man/$$(basename "$$page" .md)"; \
		if [ -e "$${page%.md}" ]; then cp "$${page%.md}" "$$to"; \
		else $(MD2MAN) -in "$$page" -out "$$to"; fi || exit 1; \
	done

# Packages and sources to publish, in bin/release. They are made one after the other:
# dist sums up all that is there.
.NOTPARALLEL:
RELEASE := bin/release
deb rpm: BUILDFLAGS += $(REPRODUCIBLE)
# No debugging information: of C code it names directories, and an object that go has
# in its cache names those of the build that made it. Nor the ID that is made of it.
deb rpm: GO_LDFLAGS := -s -w -buildid=
deb rpm dist: export SOURCE_DATE_EPOCH ?= $(if $(wildcard VERSION),$(shell stat -c %Y VERSION),$(shell git log -1 --format=%ct))
deb rpm dist: export STATED = $(or $(VERSION),$(shell git describe --tags --always --dirty))

# nfpm makes the packages. It is run at a version, rather than being a tool in go.mod:
# so whoever links this module has none of its dependencies among theirs.
NFPM ?= GOFLAGS= $(GO) run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
deb rpm: docs
	packaging/stage bin/package
	mkdir -p $(RELEASE)
	rm -f $(RELEASE)/*.$@
	export PACKAGE_VERSION=$$(packaging/version "$$STATED") PACKAGE_ARCH=$$($(GO) env GOARCH) PACKAGE_GLIBC=$$(packaging/glibc bin/skopeo-cfs); \
		$(NFPM) package --config packaging/nfpm.yaml --packager $@ --target $(RELEASE)

# The sources of the command with all modules that it is built of, which build without
# a network; what is linked into the command, as an SPDX document, where it has been
# built; and the checksums of all that is in bin/release.
DISTTREE ?= .
dist: man
	GO='$(GO)' packaging/dist $(DISTTREE) $(RELEASE)

# Installs the packages into a Debian of their own, and runs what is in them.
package-check:
	packaging/check $(RELEASE)

# The licences of what the packages of both modules import, and of what is linked into
# the command.
licenses: newest
	GO='$(GO)' TAGS='$(TAGS)' packaging/licenses . build/newest

# The vulnerabilities that are known of what both modules call. VULNDB_URL may
# name another database than https://vuln.go.dev; VULNDB=optional leaves the check out
# where the database cannot be reached.
vulncheck: newest
	GO='$(GO)' TAGS='$(TAGS)' packaging/vulncheck build/newest .

# The second module with the libraries that the command is built with, for tools that
# know nothing of -modfile.
newest: podmanio-sources
	rm -rf build/newest
	cp -r $(V2) build/newest
	mv build/newest/newest.mod build/newest/go.mod
	mv build/newest/newest.sum build/newest/go.sum

# Says which tests were left out, and why: those that need root, mostly.
test:
	@set -o pipefail; $(GO) test -v -tags '$(TAGS)' ./... | grep -vE '^(=== |PASS$$| *--- PASS|\?.*no test files)'

# The packages in which goroutines share memory, with the race detector; without the
# tests of zerocopy that repeat for each filesystem what others do.
race:
	$(GO) test -short -race -skip '^(TestContentsAreCopiedWhereTheyCannotBeShared|TestBlocksAreShared|TestGeneratedImageOfManyLayers)$$' -tags '$(TAGS)' ./splitstream ./composefsrepo ./verify ./source ./zerocopy/... ./serve ./internal/await

# The tests beside other programs, of copies that are ended and of disks that fail,
# at length. Writes docs/reliability.md.
reliability:
	mkdir -p docs
	$(GO) test -v -timeout 4h -tags '$(TAGS)' ./internal/reliability -args -each $(RELIABILITYTIME) -report '$(CURDIR)/docs/reliability.md'
	$(GO) test -v -timeout 4h -tags '$(TAGS)' ./internal/faults -args -all -report '$(CURDIR)/docs/reliability.md'

podmanio-sources:
	$(GO) run ./internal/podmanio -o $(V2)

# That module with the newest libraries: that everything compiles, and the tests
# of what the libraries are used by.
podmanio: podmanio-build podmanio-test

podmanio-build: podmanio-sources
	$(GO) vet -C $(V2) $(V2FLAGS) -tags '$(TAGS)' ./...
	$(GO) build -C $(V2) $(V2FLAGS) -tags '$(TAGS)' ./...

podmanio-test: podmanio-sources
	$(GO) test -C $(V2) $(V2FLAGS) -short -tags '$(TAGS)' ./source ./transport ./rearchive
	$(GO) test -C $(V2) $(V2FLAGS) -short -tags '$(TAGS)' -run 'Layers|Resolved|Progress|Root|Preserve|Usual|EveryStore' ./zerocopy/...
	$(GO) test -C $(V2) $(V2FLAGS) -tags '$(TAGS)' -run '^TestPolicy|^TestSignatures' ./attached
	$(GO) test -C $(V2) $(V2FLAGS) -tags '$(TAGS)' -run '$(V2TESTS)' ./cmd/skopeo-cfs

# That everything compiles with the older ones, too; without cgo, which would have
# the C code among the dependencies compiled for each.
podmanio-check: podmanio-sources
	@set -e; for version in $$($(GO) run ./internal/podmanio -list | sed '$$d'); do \
		echo "go.podman.io/image/v5 $$version"; \
		$(GO) run ./internal/podmanio -o $(V2) -resolve $$version; \
		CGO_ENABLED=0 $(GO) build -C $(V2) -modfile=../$$version.mod -tags '$(TAGS)' ./...; \
	done

# Links and runs a stand-in of each program of both generations.
link-test: podmanio-sources
	$(GO) test -v -timeout 1h -tags '$(TAGS)' ./internal/linkinto -args -all

# The tests that need a kernel with fs-verity, in a virtual machine.
vm-test:
	GO='$(GO)' TAGS='$(TAGS)' internal/vmtest/run

# The tests against cfsctl, the reference implementation.
interop:
	GO='$(GO)' TAGS='$(TAGS)' internal/interop/run

# The OCI's tests of registries, the part for those that are only pulled from.
conformance: build
	GO='$(GO)' internal/interop/conformance

# What reading layers and copying into containers-storage cost, as ratios. Needs
# 13 GB below TMPDIR; BENCHFLAGS="-dir DIR" takes another place, "-baseline COMMIT" measures an
# earlier commit beside this one, -h lists more.
bench: build
	$(GO) build -tags '$(TAGS)' -o bin/bench ./internal/bench
	bin/bench -json bin/bench.json -svg doc/bench.svg $(BENCHFLAGS)
	$(GO) test -tags '$(TAGS)' -run '^$$' -bench 'GetBlob|Objects' -benchtime 5x ./source
	$(GO) run ./internal/linksize -tags '$(TAGS)'

# Writes down what the packages export, after a change of that was meant.
api:
	$(GO) test -tags '$(TAGS)' -run '^TestAPI$$' ./internal/house -update

# Writes the options in the manual pages anew, after a change of flags.
manual:
	$(GO) test -tags '$(TAGS)' -run '^TestManual$$' ./cmd/skopeo-cfs -update-manual

lint:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt would change: $$unformatted"; exit 1; }
	$(GO) vet -tags '$(TAGS) interop' ./...
	$(GO) tool staticcheck -tags '$(TAGS) interop' ./...

fuzz:
	@for package in $$($(GO) list ./fsverity ./splitstream ./composefsrepo ./bootc ./reference ./rearchive ./identity ./attached ./serve ./tree ./zerocopy/unpack ./internal/lending ./internal/crc64iso ./internal/ustar ./internal/erofs ./internal/sqlitetable ./packages ./diff); do \
		for target in $$($(GO) test -tags '$(TAGS)' -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			$(GO) test -tags '$(TAGS)' -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x $$package || exit 1; \
		done; \
	done

# Copies the sample image into a containers-storage directory of its own.
demo: build
	demo/run

clean:
	rm -rf bin build demo/out
