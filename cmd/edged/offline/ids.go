package offline

import (
	"strconv"
	"strings"

	"edged/cmd/edged/cli"
)

// joinIDs writes ids as 1,2,3.
func joinIDs(ids []int32) string {
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatInt(int64(id), 10))
	}
	return b.String()
}

// parseIDs reads 1,2,3; spaces are forgiven.
func parseIDs(text string) ([]int32, error) {
	var ids []int32
	for word := range strings.SplitSeq(text, ",") {
		id, err := strconv.ParseInt(strings.TrimSpace(word), 10, 32)
		if err != nil || id < 0 {
			return nil, cli.Usagef("%q is not a token id", strings.TrimSpace(word))
		}
		ids = append(ids, int32(id))
	}
	return ids, nil
}
