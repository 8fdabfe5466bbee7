package jinja

func filterWordWrap(ev *evaluator, v value, a *args) value {
	ev.fail("TypeError", "wordwrap is not known here yet")
	return nil
}

func filterPprint(ev *evaluator, v value, a *args) value {
	ev.bind("pprint", a, []string{"verbose"}, 0)
	return ev.repr(v)
}
