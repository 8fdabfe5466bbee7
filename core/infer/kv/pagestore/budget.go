package pagestore

import (
	"encoding/json"
	"io"
	"os"
	"time"
)

// budget bounds the bytes that are written in any 24 hours. It counts them by the hour and remembers that
// across starts: a process that dies every minute gets no new day each time. Bytes are written down before
// they are spent, some at once.
//
// Hours are those of the running time, since a Pi's clock jumps when it learns the time: only what passed
// between two starts is taken from the clock, and a clock that went back stands still.
type budget struct {
	path    string
	daily   int64
	opened  time.Time
	hour    int64 // of opened
	now     int64 // the hour that slots[0] counts
	slots   [slots]int64
	advance int64 // bytes that are counted and not spent yet
}

// slots are the hours that count: 24 and the one that has begun.
const slots = 25

// advanceBytes is the amount that is written down ahead, so that not every page writes two files.
const advanceBytes = 16 << 20

// spent is a budget's file.
type spent struct {
	Hour  int64   `json:"hour"`  // since 1970, of the first slot
	Bytes []int64 `json:"bytes"` // by the hour, backwards
}

// openBudget reads the file at path. What cannot be read counts as a day that is spent to the half: to begin
// with a new one would be no bound, and with none at all a lost file would cost a day.
func openBudget(path string, daily int64, now time.Time) budget {
	b := budget{path: path, daily: daily, opened: now, hour: now.Unix() / 3600}
	old, there, ok := readSpent(path)
	if ok {
		b.hour = max(b.hour, old.Hour)
		b.now = old.Hour
		copy(b.slots[:], old.Bytes)
	} else {
		b.now = b.hour
		if there {
			b.slots[0] = daily / 2
		}
	}
	b.turn(now)
	return b
}

// readSpent reads a budget's file; ok: it can be believed.
func readSpent(path string) (old spent, there, ok bool) {
	f, err := os.Open(path)
	if err != nil {
		return old, !os.IsNotExist(err), false
	}
	defer f.Close() //nolint:errcheck // opened for reading: nothing to lose
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil || json.Unmarshal(text, &old) != nil || len(old.Bytes) != slots || old.Hour < 0 || old.Hour > 1<<40 {
		return old, true, false
	}
	for _, n := range old.Bytes {
		if n < 0 || n > 1<<60/slots {
			return old, true, false
		}
	}
	return old, true, true
}

// turn moves the slots on to the present hour.
func (b *budget) turn(now time.Time) {
	hour := b.hour + int64(max(0, now.Sub(b.opened))/time.Hour)
	for ; b.now < hour; b.now++ {
		if hour-b.now > slots {
			b.now = hour - slots
		}
		copy(b.slots[1:], b.slots[:slots-1])
		b.slots[0] = 0
	}
}

// sum returns the bytes of the last 24 hours.
func (b *budget) sum() int64 {
	var n int64
	for _, s := range b.slots {
		n += s
	}
	return n - b.advance
}

// has reports whether n more bytes may be written; half: within half of the day's.
func (b *budget) has(n int64, half bool, now time.Time) bool {
	b.turn(now)
	limit := b.daily
	if half {
		limit /= 2
	}
	return b.sum()+n <= limit
}

// take spends n bytes, which has has promised.
func (b *budget) take(n int64, now time.Time) error {
	b.turn(now)
	if b.advance < n {
		more := max(n-b.advance, min(advanceBytes, b.daily-b.sum()-b.advance))
		b.slots[0] += more
		b.advance += more
		if err := b.save(); err != nil {
			b.slots[0] -= more
			b.advance -= more
			return err
		}
	}
	b.advance -= n
	return nil
}

// close gives back what was not spent.
func (b *budget) close(now time.Time) error {
	b.turn(now)
	for i := range b.slots {
		back := min(b.advance, b.slots[i])
		b.slots[i] -= back
		b.advance -= back
	}
	return b.save()
}

func (b *budget) save() error {
	text, err := json.Marshal(spent{Hour: b.now, Bytes: b.slots[:]})
	if err != nil {
		return err
	}
	return writeSmall(b.path, append(text, '\n'))
}
