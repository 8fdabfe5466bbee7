package weights

// A servedFile is a file whose bytes a model or an adapter is made of, under the name that goes into its hash.
type servedFile struct{ name, path string }
