package engine

import "slices"

// fail ends a job with its own error.
func (l *loop) fail(j *job, err error) {
	l.log.Warn("request failed", "request_id", j.Req.ID, "err", err)
	l.leave(j)
	j.out.close(err)
}

// leave takes a job out of the loop and frees what it holds. Later calls do nothing.
func (l *loop) leave(j *job) {
	is := func(other *job) bool { return other == j }
	l.waiting = slices.DeleteFunc(l.waiting, is)
	l.running = slices.DeleteFunc(l.running, is)
	j.drop()
	l.dismiss(j)
}

// dismiss gives a job's adapters back.
func (l *loop) dismiss(j *job) {
	for _, a := range j.adapters {
		a.users--
		l.release(a)
	}
	j.adapters, j.spans, j.active = nil, nil, nil
}
