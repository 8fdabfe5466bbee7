package engine

import (
	"cmp"
	"slices"
	"time"
)

// Shares. A client is what the daemon says it is (Request.Client); each has the same right to the turns, whatever number of requests
// and choices it has: n choices count as n. Three things hold it:
//
//   - the next to run is of the client that runs the fewest branches (first);
//   - a client that runs nothing is let in beside a full house (newcomer), and where pages are short for it, whoever runs the most
//     branches sets some aside (giveWay);
//   - where several clients have next tokens to compute, a turn has no more rows than branches that run at once, and they are dealt
//     out one by one from client to client (deal). So a turn beside sixteen choices of another takes no longer than one beside seven.
//
// With one client nothing of it applies.

// first is the index of the waiting job that runs next: of a client that runs nothing, else of the highest priority; of those, of the
// client that runs the fewest branches; and of those the one that came first. Only a client that runs less overtakes, so that none waits
// for ever, and a priority orders what others have waiting, but keeps nobody out.
func (l *loop) first() int {
	best, fewest := 0, l.runs(l.waiting[0].Req.Client)
	for i, j := range l.waiting {
		if fewest == 0 {
			break
		}
		if j.Req.Priority != l.waiting[0].Req.Priority && l.runs(j.Req.Client) > 0 {
			continue
		}
		if j.Req.Client == l.waiting[best].Req.Client {
			continue
		}
		if n := l.runs(j.Req.Client); n < fewest {
			best, fewest = i, n
		}
	}
	return best
}

// runs is the number of branches that a client runs.
func (l *loop) runs(client string) int {
	n := 0
	for _, j := range l.running {
		if j.Req.Client == client {
			n += j.alive()
		}
	}
	return n
}

// newcomer reports whether a waiting job's client runs nothing, and there is a place for one more client.
func (l *loop) newcomer(j *job) bool {
	clients := 0
	for i, r := range l.running {
		if r.Req.Client == j.Req.Client {
			return false
		}
		if !slices.ContainsFunc(l.running[:i], func(o *job) bool { return o.Req.Client == r.Req.Client }) {
			clients++
		}
	}
	return clients < l.size.Sequences
}

// giveWay makes room for a newcomer's pages, and reports whether there is room now: the client that runs the most branches sets its
// youngest job aside, or where it has one, the last branch of that. One that would be left with fewer than the newcomer keeps what
// it has.
func (l *loop) giveWay(j *job) bool {
	if !l.newcomer(j) {
		return false
	}
	for !l.fits(j) {
		if !l.shrink(j) {
			return false
		}
	}
	return true
}

// shrink sets something aside for a newcomer.
func (l *loop) shrink(newcomer *job) bool {
	var most *job // the youngest of the client that runs the most
	held := 0
	for _, j := range l.running {
		if n := l.runs(j.Req.Client); n >= held && n > newcomer.alive() {
			most, held = j, n
		}
	}
	if most == nil {
		return false
	}
	if held > most.alive() {
		l.preempt(most)
		return true
	}
	if !most.forked {
		return false
	}
	for _, b := range slices.Backward(most.branches) {
		if b.seq != nil && b.live() && most.alive() > 1 {
			if l.active(most) == 1 {
				return false
			}
			b.drop()
			return true
		}
	}
	return false
}

// active is the number of branches of a job that have a sequence.
func (l *loop) active(j *job) int {
	n := 0
	for _, b := range j.branches {
		if b.seq != nil && b.live() {
			n++
		}
	}
	return n
}

// deal chooses n of the units that have their next token to compute: each client in turn gives the one that waited longest.
// It keeps their order, and leaves those of clients in debt out as long as others have anything to compute.
func (l *loop) deal(units []unit, n int) []unit {
	if len(l.debts) > 0 {
		least := l.leastDebt()
		units = slices.DeleteFunc(units, func(u unit) bool { return l.debts[u.job.Req.Client] > least })
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

// spend notes the time that a client's grammar took outside of the model, between two turns: the loop does nothing for anybody else
// meanwhile. Below settled it is what drawing a token takes anyway.
func (l *loop) spend(client string, took time.Duration) {
	if took < settled {
		return
	}
	if l.debts == nil {
		l.debts = map[string]time.Duration{}
	}
	l.debts[client] += took
}

const settled = time.Millisecond

// repay lets a turn in which a client had no rows count for it.
func (l *loop) repay(took time.Duration) {
	for client, debt := range l.debts {
		if slices.ContainsFunc(l.batch.units, func(u unit) bool { return u.job.Req.Client == client }) {
			continue
		}
		if debt -= took; debt > 0 {
			l.debts[client] = debt
		} else {
			delete(l.debts, client)
		}
	}
}

// leastDebt is that of the client which owes least, of those that have something to compute and do not wait for the disk.
func (l *loop) leastDebt() time.Duration {
	least, some := time.Duration(0), false
	l.each(func(u unit) {
		if u.job.prompt.Waits {
			return
		}
		if debt := l.debts[u.job.Req.Client]; !some || debt < least {
			least, some = debt, true
		}
	})
	return least
}

// each calls f for everything that has tokens to compute, in order of precedence.
func (l *loop) each(f func(unit)) {
	for _, j := range l.running {
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
