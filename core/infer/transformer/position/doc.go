// Package position computes what attention knows of positions: the angles of rotations (Rope), the values
// that are added to scores by distance (Table, Slopes), and sinusoids that are added to an embedding (Waves).
// Each is a function of a position and of an arch description, with the same bits on every machine.
//
// It knows neither batches nor caches. A Rope remembers what it computed for longer contexts, so that it is
// used by one goroutine.
package position
