package schedule

import "time"

// Entry is one accepted request as a Scheduler sees it. Its exported fields are set before it is enqueued for
// the first time.
type Entry struct {
	Client   string
	Plain    bool // asked without an envelope, so that the client's name is a tag that anybody may make up
	Priority int
	Number   uint64    // in order of admission
	Admitted time.Time // since when it waits
	Choices  int       // how many answers are computed for it

	// Granted is closed by the caller of Schedule when the entry may run; each enqueueing makes it anew.
	Granted chan struct{}

	places  int    // that it takes where it runs: one for each choice
	life    uint64 // of the backend; 0: not in it
	suspect bool   // the backend died while it ran
	deaths  int    // of the backend while it ran alone
}

// IsSuspect reports whether the backend died while the request ran, and it was not cleared since.
func (e *Entry) IsSuspect() bool { return e.suspect }

// DeathsAlone is how often the backend died while the request ran with nothing beside it.
func (e *Entry) DeathsAlone() int { return e.deaths }
