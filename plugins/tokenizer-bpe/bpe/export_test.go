package bpe

// ValidUTF8 is what Encode reads a text as, for tests in other packages.
var ValidUTF8 = validUTF8
