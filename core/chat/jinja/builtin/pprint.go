package builtin

import (
	"strings"

	"edged/core/chat/jinja/operator"
	"edged/core/chat/jinja/value"
)

// filterPprint writes a value as Python's pprint.pformat does: within 80 columns, keys in order.
func filterPprint(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	ev.Bind("pprint", a, nil, 0)
	w := ev.NewWriter()
	pretty(w, v, 0, 0, 1)
	return w.String()
}

// sortedDicts is a value whose dicts are in the order of their keys.
func sortedDicts(ev *value.Evaluation, v value.Value) value.Value {
	ev.Enter()
	defer ev.Leave()
	inner := func(items []value.Value) []value.Value {
		out := ev.NewItems(len(items))
		for _, item := range items {
			out = append(out, sortedDicts(ev, item))
		}
		return out
	}
	switch t := v.(type) {
	case *value.List:
		return ev.NewList(inner(t.Items))
	case *value.Tuple:
		ev.Alloc(value.SizeList)
		return &value.Tuple{Items: inner(t.Items)}
	case *value.Dict:
		out := ev.NewDict()
		ev.Sort(len(t.Entries), func(i, j int) bool { return keyBefore(ev, t.Entries[i].Key, t.Entries[j].Key) }, func(order []int) {
			for _, i := range order {
				ev.Put(out, t.Entries[i].Key, sortedDicts(ev, t.Entries[i].Value))
			}
		})
		return out
	}
	return v
}

// keyBefore orders keys, and those that have no order by their types.
func keyBefore(ev *value.Evaluation, a, b value.Value) bool {
	_, textA := value.Text(a)
	_, textB := value.Text(b)
	if value.IsNumber(a) && value.IsNumber(b) || textA && textB {
		return ev.Compare(a, b, "<") < 0
	}
	return value.TypeName(a) < value.TypeName(b)
}

// pretty writes a value from a column on; so many columns stay free behind its last line.
func pretty(w *value.Writer, v value.Value, indent, allowance, level int) {
	ev := w.Evaluation()
	ev.Enter()
	defer ev.Leave()
	one := ev.Repr(sortedDicts(ev, v))
	if ev.Count(one) <= 80-indent-allowance {
		w.Add(one)
		return
	}
	lines := func(n int, end string, item func(i, indent, allowance int)) {
		for i := range n {
			if i > 0 {
				w.Add(",\n")
				w.Fill(" ", indent+1)
			}
			free := 1
			if i == n-1 {
				free = allowance + len(end)
			}
			item(i, indent+1, free)
		}
		w.Add(end)
	}
	switch t := v.(type) {
	case *value.List:
		w.Add("[")
		lines(len(t.Items), "]", func(i, in, free int) { pretty(w, t.Items[i], in, free, level+1) })
	case *value.Tuple:
		w.Add("(")
		end := ")"
		if len(t.Items) == 1 {
			end = ",)"
		}
		lines(len(t.Items), end, func(i, in, free int) { pretty(w, t.Items[i], in, free, level+1) })
	case *value.Dict:
		w.Add("{")
		ev.Sort(len(t.Entries), func(i, j int) bool { return keyBefore(ev, t.Entries[i].Key, t.Entries[j].Key) }, func(order []int) {
			lines(len(order), "}", func(i, in, free int) {
				e := t.Entries[order[i]]
				k := ev.Repr(e.Key)
				w.Add(k)
				w.Add(": ")
				pretty(w, e.Value, in+ev.Count(k)+2, free, level+1)
			})
		})
	case string:
		prettyText(w, t, one, indent, allowance, level)
	default:
		w.Add(one)
	}
}

// prettyText writes a long text as several, broken behind whitespace.
func prettyText(w *value.Writer, s, one string, indent, allowance, level int) {
	ev := w.Evaluation()
	if level == 1 {
		indent++
		allowance++
	}
	most := 80 - indent
	var chunks []value.Value
	lines := operator.SplitLines(ev, s, true)
	for i, l := range lines {
		line := l.(string)
		limit := most
		if i == len(lines)-1 {
			limit -= allowance
		}
		if r := ev.Repr(line); ev.Count(r) <= limit {
			chunks = ev.Append(chunks, r)
			continue
		}
		current := ""
		for line != "" {
			n := strings.IndexFunc(line, value.IsSpace)
			if n < 0 {
				n = len(line)
			}
			n = len(line) - len(value.TrimLeft(line[n:]))
			part := line[:n]
			line = line[n:]
			limit = most
			if line == "" && i == len(lines)-1 {
				limit -= allowance
			}
			ev.Alloc(int64(len(current) + len(part)))
			if candidate := current + part; ev.Count(ev.Repr(candidate)) <= limit {
				current = candidate
				continue
			}
			if current != "" {
				chunks = ev.Append(chunks, ev.Repr(current))
			}
			current = part
		}
		if current != "" {
			chunks = ev.Append(chunks, ev.Repr(current))
		}
	}
	if len(chunks) == 1 {
		w.Add(one)
		return
	}
	if level == 1 {
		w.Add("(")
	}
	for i, c := range chunks {
		if i > 0 {
			w.Add("\n")
			w.Fill(" ", indent)
		}
		w.Add(c.(string))
	}
	if level == 1 {
		w.Add(")")
	}
}
