package builtin

import (
	"edged/core/chat/jinja/operator"
	"edged/core/chat/jinja/value"
)

// FilterFunc is a filter: v|name(a).
type FilterFunc func(ev *value.Evaluation, v value.Value, a *value.Args) value.Value

// Filter finds one of Jinja's filters, with transformers' own tojson; nil: there is none.
func Filter(name string) FilterFunc {
	switch name {
	case "abs":
		return filterAbs
	case "attr":
		return filterAttr
	case "batch":
		return filterBatch
	case "capitalize":
		return textFilter("capitalize", operator.Capitalize)
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
		return textFilter("lower", operator.Lower)
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
		return textFilter("upper", operator.Upper)
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
func textFilter(name string, f func(*value.Evaluation, string) string) FilterFunc {
	return func(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
		ev.Bind(name, a, nil, 0)
		s, safe := ev.SoftStr(v)
		return value.Marked(f(ev, s), safe)
	}
}

func filterAttr(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("attr", a, []string{"name"}, 1)
	name, ok := value.Text(p[0])
	if !ok {
		ev.Fail("TypeError", "attribute name must be string, not '%s'", value.TypeName(p[0]))
	}
	if u, isUndefined := v.(*value.Undefined); isUndefined && !operator.IsDunder(name) {
		ev.UseUndefined(u)
	}
	if v, ok := operator.Getattr(ev, v, name); ok {
		return v
	}
	return &value.Undefined{Name: name, Owner: v, HasOwner: true}
}

func filterDefault(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("default", a, []string{"default_value", "boolean"}, 0)
	_, undefined := v.(*value.Undefined)
	if undefined || p[1] != value.Missing && value.Truth(p[1]) && !value.Truth(v) {
		return value.OrDefault(p[0], "")
	}
	return v
}

func filterNamed(ev *value.Evaluation, v value.Value) FilterFunc {
	name, _ := value.Text(v)
	f := Filter(name)
	if f == nil {
		ev.Fail("TemplateRuntimeError", "No filter named %s.", ev.Repr(v))
	}
	return f
}

// nil2 is the default that None stands for too.
func nil2(v value.Value) value.Value {
	if v == nil {
		return int64(5)
	}
	return v
}
