// Package builtin implements what every template can call by name: Jinja's filters, tests and global
// functions, with those of Hugging Face's transformers (tojson that writes json.dumps(ensure_ascii=False),
// raise_exception, strftime_now).
//
// They are found by name and are functions of values. The package knows neither syntax nor the variables of a template.
package builtin
