// Package schedule decides which of a model's accepted requests run when, so that clients share the places
// fairly and a request that kills the backend is found without ending others again and again. A Turnstile
// shares a few places for short work in the same way.
//
// It must not know what a request asks for, nor journals, plugins or events. A Scheduler belongs to one lock
// of its caller; a Turnstile may be used concurrently.
package schedule
