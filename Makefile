# edged: build, try, test. `make` alone prints the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X edged/core/version.Version=$(VERSION)
BUILD = CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)'
TOOLS := $(CURDIR)/.cache/bin
GOLANGCI := v2.15.0
NFPM := v2.45.0
GOVULNCHECK := v1.9.0
BUF := v1.75.0
PROTOC_GEN_GO := v1.36.12
PROTOC_GEN_GO_GRPC := v1.6.2
PROMPT ?=
ADAPTER ?=
FUZZTIME ?= 10s
MODEL ?= llama-3.2-1b-Q4_0

.PHONY: help
help: ## print the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: go-version
go-version:
	@command -v $(GO) >/dev/null || { echo "edged needs Go 1.26 or newer, and no go command was found: see https://go.dev/dl"; exit 1; }
	@v=$$(GOTOOLCHAIN=local $(GO) env GOVERSION | sed 's/^go//'); \
	 printf '%s\n1.26\n' "$$v" | sort -V -C -r || { echo "edged needs Go 1.26 or newer; this is Go $$v (Debian's package is too old): see https://go.dev/dl"; exit 1; }

.PHONY: build
build: go-version ## build bin/edged and bin/plugins/* for this machine
	@mkdir -p bin/plugins
	$(BUILD) -o bin/edged ./cmd/edged
	$(BUILD) -o bin/plugins/ ./plugins/tokenizer-bpe ./plugins/backend-generic ./plugins/backend-neon

.PHONY: build-arm
build-arm: go-version ## build dist/linux-arm64 (Pi 3, 4, 5) and dist/linux-armv6 (Pi Zero)
	@mkdir -p dist/linux-arm64/plugins dist/linux-armv6/plugins
	GOOS=linux GOARCH=arm64 $(BUILD) -o dist/linux-arm64/edged ./cmd/edged
	GOOS=linux GOARCH=arm64 $(BUILD) -o dist/linux-arm64/plugins/ ./plugins/tokenizer-bpe ./plugins/backend-generic ./plugins/backend-neon
	GOOS=linux GOARCH=arm GOARM=6 $(BUILD) -o dist/linux-armv6/edged ./cmd/edged
	GOOS=linux GOARCH=arm GOARM=6 $(BUILD) -o dist/linux-armv6/plugins/ ./plugins/tokenizer-bpe ./plugins/backend-generic

.PHONY: package
package: build-arm ## build dist/edged_VERSION_ARCH.deb for arm64, armhf and amd64
	@mkdir -p dist/linux-amd64/plugins
	GOOS=linux GOARCH=amd64 $(BUILD) -o dist/linux-amd64/edged ./cmd/edged
	GOOS=linux GOARCH=amd64 $(BUILD) -o dist/linux-amd64/plugins/ ./plugins/tokenizer-bpe ./plugins/backend-generic
	@test -x $(TOOLS)/nfpm-$(NFPM) || { echo "building nfpm $(NFPM) (once)"; \
	 GOBIN=$(TOOLS) $(GO) install github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM) && mv $(TOOLS)/nfpm $(TOOLS)/nfpm-$(NFPM); }
	@scripts/package "$(VERSION)" $(TOOLS)/nfpm-$(NFPM)

.PHONY: demo
demo: build ## ask the demo model one question over MQTT (PROMPT='…' ADAPTER=pirate|deutsch|json)
	@bin/edged demo $(if $(ADAPTER),--adapter $(ADAPTER)) $(if $(PROMPT),-- "$$PROMPT")
demo: export PROMPT := $(PROMPT)

.PHONY: run
run: build ## run the demo service until Ctrl-C and print a mosquitto_pub line to try
	@bin/edged demo --keep

.PHONY: deps
deps: ## install what the tests need (by apt, where root or sudo allows)
	@scripts/test-deps

.PHONY: test
test: go-version deps ## run every test
	@scripts/test

.PHONY: test-brokers
test-brokers: go-version deps ## the end-to-end set against mosquitto, RabbitMQ and nats-server (BROKERS=nats)
	@scripts/test-brokers

.PHONY: test-pi
test-pi: go-version ## install, upgrade and purge the packages in roots of Debian (SUITES='bookworm trixie'); needs root
	@scripts/test-deps $$(for t in debootstrap lintian; do command -v $$t >/dev/null || echo $$t; done)
	@scripts/test-packages $(SUITES)

.PHONY: test-page
test-page: build ## the page in a real Chromium, with axe-core (SHOTS=docs/images: screenshots)
	@test/page/run

.PHONY: test-home
test-home: build ## what Home Assistant is told, by its own schemas and templates (wants Python 3.13)
	@test/home/run

.PHONY: test-clients
test-clients: build ## unchanged HTTP clients in Python and JavaScript against the built edged (installs them in .cache)
	@test/clients/run

.PHONY: test-node-red
test-node-red: build ## the flows of docs/node-red in a real Node-RED (installs it in .cache; wants Node 18 or newer)
	@test/nodered/run

.PHONY: soak
soak: build ## the long sets: an hour or more (EDGED_SOAK=1)
	EDGED_SOAK=1 $(GO) test -count=1 -v -timeout 3h ./test/...

.PHONY: lint
lint: go-version ## golangci-lint, for amd64, and for arm64 what has code of its own there
	@test -x $(TOOLS)/golangci-lint-$(GOLANGCI) || { echo "building golangci-lint $(GOLANGCI) (a few minutes, once)"; \
	 GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI) && mv $(TOOLS)/golangci-lint $(TOOLS)/golangci-lint-$(GOLANGCI); } || true
	@test -x $(TOOLS)/golangci-lint-$(GOLANGCI) || { echo "lint: NOT RUN: golangci-lint $(GOLANGCI) could not be built here"; exit 0; }; \
	 set -x; $(TOOLS)/golangci-lint-$(GOLANGCI) run ./... && \
	 GOARCH=arm64 $(TOOLS)/golangci-lint-$(GOLANGCI) run ./quant/... ./plugins/backend-neon/... ./core/infer/transformer/...

.PHONY: vuln
vuln: go-version ## known vulnerabilities of dependencies (or their versions, where the database cannot be reached)
	@test -x $(TOOLS)/govulncheck-$(GOVULNCHECK) || { \
	 GOBIN=$(TOOLS) $(GO) install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK) && mv $(TOOLS)/govulncheck $(TOOLS)/govulncheck-$(GOVULNCHECK); } || true
	@scripts/vuln $(TOOLS)/govulncheck-$(GOVULNCHECK)

.PHONY: bench
bench: go-version ## kernel and engine benchmarks on this machine
	$(GO) test -run '^$$' -bench . -benchmem ./quant/... ./core/infer/transformer/... ./core/infer/engine/... ./plugins/...

.PHONY: bench-peers
bench-peers: build ## edged against llama.cpp on MODEL=FILE.gguf or a shape, in turns (THREADS=2 REPEATS=5)
	@scripts/bench-peers "$(MODEL)"

.PHONY: generate-check
generate-check: go-version ## compile the C kernels anew with the pinned compilers (apt) and compare every byte
	@scripts/generate-check

.PHONY: fuzz-short
fuzz-short: go-version ## every fuzz target for FUZZTIME (default 10s)
	@scripts/fuzz $(FUZZTIME)

.PHONY: proto
proto: go-version ## regenerate the protobuf code (only after changing a .proto)
	@mkdir -p $(TOOLS)
	@test -x $(TOOLS)/buf || GOBIN=$(TOOLS) $(GO) install github.com/bufbuild/buf/cmd/buf@$(BUF)
	@test -x $(TOOLS)/protoc-gen-go || GOBIN=$(TOOLS) $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go@$(PROTOC_GEN_GO)
	@test -x $(TOOLS)/protoc-gen-go-grpc || GOBIN=$(TOOLS) $(GO) install google.golang.org/grpc/cmd/protoc-gen-go-grpc@$(PROTOC_GEN_GO_GRPC)
	PATH=$(TOOLS):$$PATH core/protocol/edgedpb/generate.sh

.PHONY: clean
clean: ## remove what was built here
	rm -rf bin dist .cache
