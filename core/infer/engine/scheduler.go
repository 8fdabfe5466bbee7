package engine

import (
	"cmp"
	"slices"
	"time"
)

// scheduler knows who waits and who runs, and decides whose turn it is. It computes nothing and holds no
// memory of the model: what it decides, the loop carries out.
//
// A client is what the daemon says it is (Request.Client); each has the same right to the turns, whatever
// number of requests and choices it has: n choices count as n. Three things see to it:
//
//   - the next to run is of the client that runs the fewest branches (first);
//   - a client that runs nothing is let in although as many branches run as may (newcomer), and where pages are short for it, the client
//     that runs the most branches is preempted (victim);
//   - where several clients have next tokens to compute, a turn has no more rows than branches that run at once, and they are dealt
//     out one by one from client to client (deal). So a turn beside sixteen choices of another takes no longer than one beside seven.
//
// With one client nothing of it applies.
type scheduler struct {
	waiting  []*job // by precedence
	running  []*job // by precedence
	arrivals uint64
	clients  int                      // that are let in beside each other
	debts    map[string]time.Duration // of clients whose grammars kept the others waiting, see charge
}

// enqueue puts a job into the queue, by precedence.
func (s *scheduler) enqueue(j *job) {
	at, _ := slices.BinarySearchFunc(s.waiting, j, precedence)
	s.waiting = slices.Insert(s.waiting, at, j)
}

func precedence(a, b *job) int {
	switch {
	case a.before(b):
		return -1
	case b.before(a):
		return 1
	}
	return 0
}

// first is the index of the waiting job that runs next: of a client that runs nothing, else of the highest
// priority; of those, of the client that runs the fewest branches; and of those the one that came first. Only
// a client that runs less overtakes, so that none waits for ever, and a priority orders what others have
// waiting, but keeps nobody out.
func (s *scheduler) first() int {
	best, fewest := 0, s.runs(s.waiting[0].Req.Client)
	for i, j := range s.waiting {
		if fewest == 0 {
			break
		}
		if j.Req.Priority != s.waiting[0].Req.Priority && s.runs(j.Req.Client) > 0 {
			continue
		}
		if j.Req.Client == s.waiting[best].Req.Client {
			continue
		}
		if n := s.runs(j.Req.Client); n < fewest {
			best, fewest = i, n
		}
	}
	return best
}

// runs is the number of branches that a client runs.
func (s *scheduler) runs(client string) int {
	n := 0
	for _, j := range s.running {
		if j.Req.Client == client {
			n += j.alive()
		}
	}
	return n
}

// newcomer reports whether a waiting job's client runs nothing, and there is a place for one more client.
func (s *scheduler) newcomer(j *job) bool {
	clients := 0
	for i, r := range s.running {
		if r.Req.Client == j.Req.Client {
			return false
		}
		if !slices.ContainsFunc(s.running[:i], func(o *job) bool { return o.Req.Client == r.Req.Client }) {
			clients++
		}
	}
	return clients < s.clients
}

// victim is the job to be preempted for a newcomer: the youngest of the client that runs the most branches,
// and how many these are; nil: every client runs so few that it would be left with fewer than the newcomer.
func (s *scheduler) victim(newcomer *job) (most *job, runs int) {
	for _, j := range s.running {
		if n := s.runs(j.Req.Client); n >= runs && n > newcomer.alive() {
			most, runs = j, n
		}
	}
	return most, runs
}

// remove takes a job out of both lists.
func (s *scheduler) remove(j *job) {
	is := func(other *job) bool { return other == j }
	s.waiting = slices.DeleteFunc(s.waiting, is)
	s.running = slices.DeleteFunc(s.running, is)
}

// start moves a waiting job to those that run.
func (s *scheduler) start(j *job) {
	s.remove(j)
	at, _ := slices.BinarySearchFunc(s.running, j, precedence)
	s.running = slices.Insert(s.running, at, j)
}

// deal chooses n of the units that have their next token to compute: each client in turn gives the one that
// waited longest. It keeps their order, and leaves those of clients in debt out as long as others have
// anything to compute.
func (s *scheduler) deal(units []unit, n int) []unit {
	if len(s.debts) > 0 {
		least := s.leastDebt()
		units = slices.DeleteFunc(units, func(u unit) bool { return s.debts[u.job.Req.Client] > least })
	}
	if len(units) <= n {
		return units
	}
	type place struct{ at, rank int }
	order := make([]int, len(units))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(x, y int) int { return cmp.Compare(units[x].b.served, units[y].b.served) })
	ranks := map[string]int{}
	places := make([]place, len(units))
	for k, at := range order {
		client := units[at].job.Req.Client
		places[k] = place{at, ranks[client]}
		ranks[client]++
	}
	slices.SortStableFunc(places, func(x, y place) int { return cmp.Compare(x.rank, y.rank) })
	places = places[:n]
	slices.SortFunc(places, func(x, y place) int { return cmp.Compare(x.at, y.at) })
	for k, p := range places {
		units[k] = units[p.at] // p.at is never below k
	}
	clear(units[n:])
	return units[:n]
}

// severalClients reports whether units are of more than one.
func severalClients(units []unit) bool {
	for _, u := range units {
		if u.job.Req.Client != units[0].job.Req.Client {
			return true
		}
	}
	return false
}

// charge notes the time that a client's grammar took outside of the model, between two turns: the loop does
// nothing for anybody else meanwhile. Below freeSpend it is what drawing a token takes anyway.
func (s *scheduler) charge(client string, took time.Duration) {
	if took < freeSpend {
		return
	}
	if s.debts == nil {
		s.debts = map[string]time.Duration{}
	}
	s.debts[client] += took
}

const freeSpend = time.Millisecond

// repay lets a turn of these units in which a client had no rows count for it.
func (s *scheduler) repay(units []unit, took time.Duration) {
	for client, debt := range s.debts {
		if slices.ContainsFunc(units, func(u unit) bool { return u.job.Req.Client == client }) {
			continue
		}
		if debt -= took; debt > 0 {
			s.debts[client] = debt
		} else {
			delete(s.debts, client)
		}
	}
}

// leastDebt is that of the client which owes least, of those that have something to compute and do not wait
// for the disk.
func (s *scheduler) leastDebt() time.Duration {
	least, some := time.Duration(0), false
	s.pending(func(u unit) {
		if u.job.prompt.Waits {
			return
		}
		if debt := s.debts[u.job.Req.Client]; !some || debt < least {
			least, some = debt, true
		}
	})
	return least
}

// pending calls f for everything that has tokens to compute, in order of precedence.
func (s *scheduler) pending(f func(unit)) {
	for _, j := range s.running {
		if j.root != nil {
			if from, to := j.root.Len(), len(j.Req.PromptIDs)-1; from < to {
				f(unit{job: j, seq: j.root, from: from, to: to})
			}
		}
		for _, b := range j.branches {
			if b.seq == nil || !b.live() {
				continue
			}
			if from, to := b.seq.Len(), b.target(); from < to {
				f(unit{job: j, b: b, seq: b.seq, from: from, to: to})
			}
		}
	}
}

// alive is the number of branches that run.
func (s *scheduler) alive() int {
	n := 0
	for _, j := range s.running {
		n += j.alive()
	}
	return n
}

// byTurns puts prompts into the order in which they get rows: the client first whose prompts were read
// longest ago, of one client the highest priority, then by precedence. So a long prompt of one client does
// not keep a short one of another waiting to its end, and since a turn's rows go to one of them as far as it
// takes them, what prompts have in common is computed once: the next client finds the pages of this turn.
func (s *scheduler) byTurns(prompts []unit) {
	if len(prompts) < 2 {
		return
	}
	read := func(u unit) uint64 {
		last := uint64(0)
		for _, j := range s.running {
			if j.Req.Client == u.job.Req.Client {
				last = max(last, j.read)
			}
		}
		return last
	}
	slices.SortStableFunc(prompts, func(a, b unit) int {
		if a.job.Req.Client != b.job.Req.Client {
			if c := cmp.Compare(read(a), read(b)); c != 0 {
				return c
			}
		}
		return cmp.Compare(b.job.Req.Priority, a.job.Req.Priority)
	})
}

// prompts reports whether anything but next tokens is to be computed.
func (s *scheduler) prompts() bool {
	some := false
	s.pending(func(u unit) { some = some || !u.job.prompt.Waits && (u.b == nil || u.to-u.from > 1) })
	return some
}
