package engine

// fail ends a job with its own error.
func (l *loop) fail(j *job, err error) {
	l.log.Warn("request failed", "request_id", j.Req.ID, "err", err)
	l.remove(j)
	j.out.close(err)
}

// remove takes a job out of the loop and frees what it holds. Later calls do nothing.
func (l *loop) remove(j *job) {
	l.scheduler.remove(j)
	j.drop()
	l.releaseAdapters(j)
}

// releaseAdapters gives a job's adapters back.
func (l *loop) releaseAdapters(j *job) {
	for _, a := range j.adapters {
		a.users--
		l.release(a)
	}
	j.adapters, j.spans, j.active = nil, nil, nil
}
