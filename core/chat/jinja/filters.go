package jinja

type filterFunc func(ev *evaluator, v value, a *args) value

// filterCalled finds one of Jinja's filters, with transformers' own tojson; nil: there is none.
func filterCalled(name string) filterFunc {
	switch name {
	case "abs":
		return filterAbs
	case "attr":
		return filterAttr
	case "batch":
		return filterBatch
	case "capitalize":
		return textFilter("capitalize", capitalize)
	case "center":
		return filterCenter
	case "count":
		return filterLength
	case "d":
		return filterDefault
	case "default":
		return filterDefault
	case "dictsort":
		return filterDictsort
	case "e":
		return filterEscape
	case "escape":
		return filterEscape
	case "filesizeformat":
		return filterFileSize
	case "first":
		return filterFirst
	case "float":
		return filterFloat
	case "forceescape":
		return filterForceEscape
	case "format":
		return filterFormat
	case "groupby":
		return filterGroupBy
	case "indent":
		return filterIndent
	case "int":
		return filterInt
	case "items":
		return filterItems
	case "join":
		return filterJoin
	case "last":
		return filterLast
	case "length":
		return filterLength
	case "list":
		return filterList
	case "lower":
		return textFilter("lower", lower)
	case "map":
		return filterMap
	case "max":
		return extreme("max", 1)
	case "min":
		return extreme("min", -1)
	case "pprint":
		return filterPprint
	case "random":
		return filterRandom
	case "reject":
		return selecting(true, false)
	case "rejectattr":
		return selecting(true, true)
	case "replace":
		return filterReplace
	case "reverse":
		return filterReverse
	case "round":
		return filterRound
	case "safe":
		return filterSafe
	case "select":
		return selecting(false, false)
	case "selectattr":
		return selecting(false, true)
	case "slice":
		return filterSlice
	case "sort":
		return filterSort
	case "string":
		return filterString
	case "striptags":
		return filterStripTags
	case "sum":
		return filterSum
	case "title":
		return filterTitle
	case "tojson":
		return toJSON
	case "trim":
		return filterTrim
	case "truncate":
		return filterTruncate
	case "unique":
		return filterUnique
	case "upper":
		return textFilter("upper", upper)
	case "urlencode":
		return filterURLEncode
	case "urlize":
		return filterURLize
	case "wordcount":
		return filterWordCount
	case "wordwrap":
		return filterWordWrap
	case "xmlattr":
		return filterXMLAttr
	}
	return nil
}

// textFilter is a filter of a text without arguments; what is no text is taken as it prints.
func textFilter(name string, f func(*evaluator, string) string) filterFunc {
	return func(ev *evaluator, v value, a *args) value {
		ev.bind(name, a, nil, 0)
		s, safe := ev.soft(v)
		return marked(f(ev, s), safe)
	}
}

func filterAttr(ev *evaluator, v value, a *args) value {
	p := ev.bind("attr", a, []string{"name"}, 1)
	name, ok := text(p[0])
	if !ok {
		ev.fail("TypeError", "attribute name must be string, not '%s'", typeName(p[0]))
	}
	if u, isUndefined := v.(*undefined); isUndefined && !dunder(name) {
		ev.used(u)
	}
	if v, ok := ev.attribute(v, name); ok {
		return v
	}
	return &undefined{name: name, of: v, has: true}
}

func filterDefault(ev *evaluator, v value, a *args) value {
	p := ev.bind("default", a, []string{"default_value", "boolean"}, 0)
	_, undefined := v.(*undefined)
	if undefined || p[1] != missing && ev.truth(p[1]) && !ev.truth(v) {
		return or(p[0], "")
	}
	return v
}

func (ev *evaluator) filterNamed(v value) filterFunc {
	name, _ := text(v)
	f := filterCalled(name)
	if f == nil {
		ev.fail("TemplateRuntimeError", "No filter named %s.", ev.repr(v))
	}
	return f
}

// nil2 is the default that None stands for too.
func nil2(v value) value {
	if v == nil {
		return int64(5)
	}
	return v
}
