// Package encoders holds the families of encoders, and of encoder-decoders, whose first half is one: one file
// for each, or for a few that share one network. All lists them.
package encoders

import "edged/core/model/arch/family"

// All lists the families of this package, in the order of docs/models.md.
func All() []family.Family {
	return []family.Family{
		bert(),
		roberta(),
		distilbert(),
		mpnet(),
		electra(),
		albert(),
		modernbert(),
		nomicbert(),
		gte(),
		jinav3(),
		eurobert(),
		t5(),
		mt5(),
		umt5(),
		bart(),
		mbart(),
		marian(),
		pegasus(),
		m2m100(),
	}
}
