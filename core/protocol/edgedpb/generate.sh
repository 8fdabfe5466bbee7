#!/bin/sh
# Checks the .proto files, generates the Go code from them and records what it was made from, which a test compares.
# buf, protoc-gen-go and protoc-gen-go-grpc are to be in the PATH; `make proto` puts its pinned ones there.
set -eu
cd "$(dirname "$0")/../../.."
buf lint
buf generate
cd core/protocol/edgedpb
sha256sum edged/v1/*.proto ./*.pb.go | sed 's|  \./|  |' >sums.txt
