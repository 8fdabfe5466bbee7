package speculate

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"edged/core/infer/engine/answer"
	"edged/core/infer/engine/compute"
	"edged/core/infer/engine/pace"
	"edged/core/protocol/backend"
)

// rows of the tests' models.
const rows = 96

// counter is a draft model that finds one token after the other likely, in the order of their numbers.
type counter struct {
	compute.Model
	open int // sequences
}

type counterSeq struct {
	compute.Seq
	m *counter
	n int
}

func (m *counter) NewSeq() compute.Seq   { m.open++; return &counterSeq{m: m} }
func (s *counterSeq) Len() int           { return s.n }
func (s *counterSeq) Need(int) int       { return 0 }
func (s *counterSeq) Free()              { s.m.open-- }
func (s *counterSeq) Truncate(n int) int { s.n = min(s.n, max(n, 0)); return s.n }

func (m *counter) Forward(batch []compute.Row) error {
	for _, r := range batch {
		r.Seq.(*counterSeq).n++
		if r.Logits != nil {
			clear(r.Logits)
			r.Logits[(int(r.Token)+1)%rows] = 1
		}
	}
	return nil
}

// pages is a sequence that takes a page for each token.
type pages struct{ compute.Seq }

func (pages) Need(n int) int { return n }

func answers(t *testing.T, req backend.Request) *answer.Answers {
	t.Helper()
	words := backend.Vocabulary{}
	for i := range rows {
		words.Pieces = append(words.Pieces, []byte{byte(32 + i)})
	}
	v, err := answer.NewVocabulary(words, rows, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := answer.New(t.Context(), req, v, rows, 4096)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// sequence is a request that is answered by its forced ids.
type sequence struct {
	*answer.Choice
	draft         Draft
	drawer        answer.Drawer
	tried, proved int // guesses
}

// turn has s plan the next turn, draws its tokens, and returns the number of its rows.
func (q *sequence) turn(t *testing.T, s *Speculator, p *pace.Estimator) int {
	t.Helper()
	branches := []Branch{{Choice: q.Choice, Draft: &q.draft, Seq: pages{}, May: true}}
	Clear(branches)
	s.Plan(branches, Turn{Pace: p, Rows: 26, Pages: 1000})
	computed := 1 + q.draft.Taken
	for i := 0; i < computed && i <= q.draft.Accepted(q.Choice) && q.Finish == ""; i++ {
		place := q.History()
		id, err := q.drawer.Draw(q.Choice, nil, nil, len(q.IDs))
		if err != nil {
			t.Fatal(err)
		}
		q.draft.Observe(place, id)
		if _, err := q.drawer.Take(q.Choice, id, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	taken := q.draft.Taken
	accepted, drew := q.draft.Verify(q.Choice)
	if !drew {
		t.Fatal("nothing was drawn")
	}
	q.tried, q.proved = q.tried+taken, q.proved+accepted
	return computed
}

// TestGuessesPay gives turns lengths of their own, and texts that quote their prompt, or do not, or do so by chance: what is
// guessed never costs more than the bound, and pays where it can.
func TestGuessesPay(t *testing.T) {
	random := func(n, values int, salt uint64) []int32 {
		r := rand.New(rand.NewPCG(salt, 7))
		out := make([]int32, n)
		for i := range out {
			out[i] = r.Int32N(int32(values))
		}
		return out
	}
	document := random(1200, 90, 1)
	for _, c := range []struct {
		name         string
		prompt, text []int32
		row          time.Duration // beyond the first one, which takes 10 ms
		least, most  float64       // speed against no guesses
	}{
		{"quotes", document, document[100:900], 1500 * time.Microsecond, 2, 17},
		{"quotes where rows are dear", document, document[100:900], 11 * time.Millisecond, 0.97, 1.05},
		{"quotes in pieces", document, slices.Concat(document[100:140], random(20, 90, 2), document[300:340], random(20, 90, 3), document[500:560]), 1500 * time.Microsecond, 1.3, 17},
		{"free", document, random(800, 90, 4), 1500 * time.Microsecond, 0.97, 1.1},
		{"free, few words", random(1200, 6, 5), random(800, 6, 6), 1500 * time.Microsecond, 0.97, 2},
		{"free, few words, rows are dear", random(1200, 6, 5), random(800, 6, 6), 6 * time.Millisecond, 0.97, 2},
		{"quotes first", document, slices.Concat(document[100:200], random(700, 6, 7)), 3 * time.Millisecond, 1, 17},
	} {
		t.Run(c.name, func(t *testing.T) {
			spent := [2]time.Duration{}
			for i := range spent {
				a := answers(t, backend.Request{PromptIDs: c.prompt, ForcedIDs: c.text, MaxTokens: len(c.text), IgnoreEOS: true})
				q := &sequence{Choice: a.Choices[0]}
				s := &Speculator{Lookup: i == 1}
				var p pace.Estimator
				for q.Finish == "" {
					n := q.turn(t, s, &p)
					took := 10*time.Millisecond + time.Duration(n-1)*c.row
					p.Observe(n, 0, took)
					spent[i] += took
				}
				if !slices.Equal(q.IDs, c.text) {
					t.Error("the text is another one")
				}
				if i == 1 {
					t.Logf("%d guesses, %d right", q.tried, q.proved)
				}
			}
			speed := float64(spent[0]) / float64(spent[1])
			t.Logf("%.2f × as fast", speed)
			if speed < c.least || speed > c.most {
				t.Errorf("%.3f × as fast, want %v to %v", speed, c.least, c.most)
			}
		})
	}
}

// TestPlanKeepsBounds: a draft has no more rows than the batch, the answer, the pages and the grammar leave it.
func TestPlanKeepsBounds(t *testing.T) {
	line := []int32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	text := slices.Concat(line, line, line)
	for name, c := range map[string]struct {
		req   backend.Request
		turn  Turn
		not   bool
		taken int
	}{
		"all":       {backend.Request{}, Turn{Rows: 100, Pages: 100}, false, maxDraft},
		"rows":      {backend.Request{}, Turn{Rows: 4, Pages: 100}, false, 4},
		"answer":    {backend.Request{MaxTokens: 6}, Turn{Rows: 100, Pages: 100}, false, 5}, // and the next token
		"pages":     {backend.Request{}, Turn{Rows: 100, Pages: 4}, false, 3},
		"grammar":   {backend.Request{Grammar: `root ::= [!-$]{3} "z" [!-~]{9}`}, Turn{Rows: 100, Pages: 100}, false, 3}, // ids 1 to 4 are ! to $
		"forbidden": {backend.Request{}, Turn{Rows: 100, Pages: 100}, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			req := c.req
			req.PromptIDs = text
			a := answers(t, req)
			var d Draft
			s := Speculator{Lookup: true, Eager: true}
			branches := []Branch{{Choice: a.Choices[0], Draft: &d, Seq: pages{}, May: !c.not}}
			c.turn.Pace = &pace.Estimator{}
			Clear(branches)
			s.Plan(branches, c.turn)
			// Pages are halved until they fit.
			if d.Taken > c.taken || d.Taken < c.taken/2 || name != "pages" && d.Taken != c.taken {
				t.Fatalf("%d rows are taken, want %d", d.Taken, c.taken)
			}
			if want := slices.Concat(line, line)[:d.Taken]; !slices.Equal(d.IDs[:d.Taken], want) {
				t.Errorf("guessed %v, want %v", d.IDs[:d.Taken], want)
			}
		})
	}
}

// TestDraftModel: where nothing is repeated, the smaller model is asked, and its sequence follows the one that answers.
func TestDraftModel(t *testing.T) {
	m := &counter{}
	s := &Speculator{Lookup: true, Eager: true}
	s.DraftWith(m, compute.Sizes{Rows: rows, Context: 4096, Batch: 64, Sequences: 4})
	a := answers(t, backend.Request{PromptIDs: []int32{3, 1}, ForcedIDs: []int32{2, 3, 4, 50, 51, 9}, MaxTokens: 6, IgnoreEOS: true})
	q := &sequence{Choice: a.Choices[0]}
	var turns []int
	for q.Finish == "" {
		turns = append(turns, q.turn(t, s, &pace.Estimator{}))
		if n := q.draft.seq.Len(); n > q.History() {
			t.Errorf("the draft model's sequence has %d tokens of %d", n, q.History())
		}
	}
	// 2 3 4 are guessed and 50 comes; 51 of 51 52 is right, the end leaves no room for more, and 9 comes.
	if want := []int{4, 2}; !slices.Equal(turns, want) || q.proved != 4 {
		t.Errorf("rows of the turns %v, want %v; %d guesses came true", turns, want, q.proved)
	}
	if q.draft.Forget(); m.open != 0 {
		t.Errorf("%d sequences are open", m.open)
	}
}
