// Package version holds the version of this build. It knows nothing else.
package version

// Version is set by the linker: `git describe` of the commit that was built.
var Version = "unknown" //nolint:gochecknoglobals // the linker sets it
