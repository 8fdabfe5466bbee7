// Package wildcard compares MQTT topics with filters, for the embedded broker, the MQTT door and its client
// alike. It knows no connection and keeps no state.
package wildcard

import "strings"

// Match reports whether a valid filter takes a topic. Wildcards at the beginning do not match what begins
// with $ (MQTT 5.0, sections 4.7.1 and 4.7.2).
func Match(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && (strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")) {
		return false
	}
	for {
		f, restF, moreF := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, restT, moreT := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		if !moreF || !moreT {
			// "a/#" matches "a" too.
			return moreF == moreT || moreF && restF == "#"
		}
		filter, topic = restF, restT
	}
}
