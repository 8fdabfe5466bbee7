package e2e

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/test/brokers"
	"edged/test/oracle"
)

// TestEmbedAsked: with prompts, cut vectors and cut texts the daemon's vectors are sentence-transformers'.
func TestEmbedAsked(t *testing.T) {
	for _, name := range []string{"gemma-embed", "bert-mean"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(oracle.Dir(t), "encoders", name)
			var want struct {
				Texts []struct {
					Text string  `json:"text"`
					Name *string `json:"prompt_name"`
				} `json:"texts"`
				Matryoshka struct {
					Dim   int      `json:"dim"`
					Texts []string `json:"texts"`
				} `json:"matryoshka"`
				Long *struct {
					Text string `json:"text"`
				} `json:"long"`
			}
			readJSON(t, filepath.Join(dir, "oracle/enc.json"), &want)
			port := brokers.FreePort(t)
			s := serve(t, "model.path="+filepath.Join(dir, "hf"), "backend.precision=exact", "adapters.dir="+t.TempDir(), fmt.Sprintf("http.listen=127.0.0.1:%d", port))
			number := 0
			ask := func(fields map[string]any) (out struct {
				Embeddings []json.RawMessage
				Error      *struct{ Code, Message string }
			},
			) {
				t.Helper()
				number++
				fields["id"] = fmt.Sprintf("e%d", number)
				payload, err := json.Marshal(fields)
				if err != nil {
					t.Fatal(err)
				}
				s.publish("edged/test/embed", string(payload))
				all := s.until("edged/test/response/"+fields["id"].(string), func(p string) bool { return strings.Contains(p, `"done":true`) })
				if err := json.Unmarshal([]byte(all[len(all)-1]), &out); err != nil {
					t.Fatal(err)
				}
				return out
			}
			numbers := func(raw json.RawMessage) (v []float32) {
				t.Helper()
				if err := json.Unmarshal(raw, &v); err != nil {
					t.Fatal(err)
				}
				return v
			}
			whole := oracle.NPY(t, filepath.Join(dir, "oracle/st.npy"))
			width := len(whole) / len(want.Texts)
			for i, c := range want.Texts {
				fields := map[string]any{"input": c.Text}
				if c.Name != nil {
					fields["task"] = *c.Name
				}
				out := ask(fields)
				if out.Error != nil {
					t.Fatalf("%q: %+v", c.Text, out.Error)
				}
				if c := cosine(numbers(out.Embeddings[0]), whole[i*width:(i+1)*width]); !(c >= 0.99999) {
					t.Errorf("text %d: cosine %.7f", i, c)
				}
			}
			cut := oracle.NPY(t, filepath.Join(dir, "oracle/st.cutnorm.npy"))
			dim := want.Matryoshka.Dim
			out := ask(map[string]any{"input": want.Matryoshka.Texts, "dimensions": dim, "encoding_format": "base64"})
			if out.Error != nil || len(out.Embeddings) != len(want.Matryoshka.Texts) {
				t.Fatalf("%d vectors, %+v", len(out.Embeddings), out.Error)
			}
			for i, raw := range out.Embeddings {
				var packed []byte
				if err := json.Unmarshal(raw, &packed); err != nil || len(packed) != 4*dim {
					t.Fatalf("%s, %v", raw, err)
				}
				for k := range dim {
					got, w := math.Float32frombits(binary.LittleEndian.Uint32(packed[4*k:])), cut[i*dim+k]
					if !(math.Abs(float64(got-w)) <= 2e-3) {
						t.Errorf("vector %d, value %d: %v, want %v", i, k, got, w)
					}
				}
			}
			if e := ask(map[string]any{"input": "a", "dimensions": width + 1}).Error; e == nil || e.Code != "invalid_request" {
				t.Errorf("more values than there are: %+v", e)
			}
			if e := ask(map[string]any{"input": "a", "task": "nonsense"}).Error; e == nil || e.Code != "prompt_not_found" && e.Code != "unsupported" {
				t.Errorf("a task that is none: %+v", e)
			}
			if want.Long != nil {
				long := oracle.NPY(t, filepath.Join(dir, "oracle/st.long.npy"))
				out := ask(map[string]any{"input": want.Long.Text})
				if out.Error != nil {
					t.Fatal(out.Error)
				}
				if c := cosine(numbers(out.Embeddings[0]), long); !(c >= 0.99999) {
					t.Errorf("a text that is cut: cosine %.7f", c)
				}
				if e := ask(map[string]any{"input": want.Long.Text, "truncate": false}).Error; e == nil || e.Code != "context_length_exceeded" {
					t.Errorf("a text that may not be cut: %+v", e)
				}
			}
		})
	}
}

// cosine of the angle between two vectors.
func cosine(a, b []float32) float64 {
	var dot, na, nb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		dot, na, nb = dot+x*y, na+x*x, nb+y*y
	}
	return dot / math.Sqrt(na*nb)
}

// rankings are the queries of rank.json with the documents that it has scores for.
type rankings struct {
	Pairs []struct {
		Query string  `json:"query"`
		Text  string  `json:"text"`
		Logit float64 `json:"logit"`
		Score float64 `json:"score"`
	} `json:"pairs"`
}

// rankedResult is one result of a ranking; HTTP calls its score relevance_score.
type rankedResult struct {
	Index     int
	Score     float64
	Logit     float64
	Relevance float64 `json:"relevance_score"`
}

// TestRerank: over MQTT and HTTP a cross-encoder's scores and logits are sentence-transformers', the best first; a model that ranks
// nothing says so.
func TestRerank(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "encoders", "bert-rank")
	var want rankings
	readJSON(t, filepath.Join(dir, "oracle/rank.json"), &want)
	port := brokers.FreePort(t)
	s := serve(t, "model.path="+filepath.Join(dir, "hf"), "backend.precision=exact", "adapters.dir="+t.TempDir(), fmt.Sprintf("http.listen=127.0.0.1:%d", port))

	query, documents, expected := want.Pairs[0].Query, []string{}, []rankedResult{}
	for _, p := range want.Pairs {
		if p.Query == query && p.Text != "" {
			documents = append(documents, p.Text)
			expected = append(expected, rankedResult{Logit: p.Logit, Score: p.Score})
		}
	}
	if len(documents) < 3 {
		t.Fatalf("only %d documents for %q", len(documents), query)
	}
	check := func(where string, got []rankedResult, n int) {
		t.Helper()
		if len(got) != n {
			t.Fatalf("%s: %d results, want %d", where, len(got), n)
		}
		for i, r := range got {
			if i > 0 && r.Logit > got[i-1].Logit {
				t.Errorf("%s: result %d is better than the one before it", where, i)
			}
			if w := expected[r.Index]; !(math.Abs(r.Logit-w.Logit) <= 1e-3) || !(math.Abs(r.Score-w.Score) <= 1e-3) {
				t.Errorf("%s: %+v, want %+v", where, r, w)
			}
		}
	}
	ask := func(more string) string {
		body, err := json.Marshal(map[string]any{"query": query, "documents": documents})
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSuffix(string(body), "}") + more + "}"
	}
	over := func(id, more string) (out struct {
		Results []rankedResult
		Error   *struct{ Code, Message string }
	},
	) {
		t.Helper()
		s.publish("edged/test/rerank", ask(`,"id":"`+id+`"`+more))
		all := s.until("edged/test/response/"+id, func(p string) bool { return strings.Contains(p, `"done":true`) })
		if err := json.Unmarshal([]byte(all[len(all)-1]), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	all := over("all", "")
	check("MQTT", all.Results, len(documents))
	check("the best", over("best", `,"top_n":2`).Results, 2)
	if e := over("told", `,"instruct":"x"`).Error; e == nil || e.Code != "invalid_request" {
		t.Errorf("an instruction: %+v", e)
	}

	post := func(path, body string, v any) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || json.Unmarshal(text, v) != nil {
			t.Fatalf("%s: %v, %s", path, err, text)
		}
		return resp.StatusCode
	}
	var answer struct{ Results []rankedResult }
	if status := post("/v1/rerank", ask(""), &answer); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	for i := range answer.Results {
		answer.Results[i].Score = answer.Results[i].Relevance
		if got, over := answer.Results[i], all.Results[i]; got.Index != over.Index || got.Logit != over.Logit || got.Score != over.Score {
			t.Errorf("over HTTP %+v, over MQTT %+v", got, over)
		}
	}
	check("HTTP", answer.Results, len(documents))

	for path, body := range map[string]string{
		"/v1/chat/completions": `{"messages":[{"role":"user","content":"a"}]}`, "/v1/embeddings": `{"input":"a"}`,
	} {
		var refused struct {
			Error struct{ Message, Code, Param string }
		}
		status := post(path, body, &refused)
		if e := refused.Error; status != http.StatusBadRequest || e.Code != "unsupported" || e.Param != "model" || !strings.Contains(e.Message, "encoder") || !strings.Contains(e.Message, "/v1/rerank") {
			t.Errorf("%s to a model that only ranks: %d %+v", path, status, e)
		}
	}

	other := serve(t, "model.path="+filepath.Join(oracle.Dir(t), "encoders/bert-mean/hf"), "adapters.dir="+t.TempDir())
	other.publish("edged/test/rerank", `{"id":"no","query":"a","documents":["b"]}`)
	if e := other.result("no").Error; e == nil || e.Code != "unsupported" || !strings.HasPrefix(e.Message, "model: it is an encoder without a head") {
		t.Errorf("a model that ranks nothing: %+v", e)
	}
}

// translations are what transformers made of texts and languages.
type translations struct {
	Cases []struct {
		Text        string
		Source      string
		Target      string
		IDs         []int32 `json:"ids"`
		Beams       []int32
		Greedy      []int32
		Score       float64
		Translation string
	}
}

// TestTranslate: each kind of model is told languages as transformers tells it, and answers as it does, by beams and greedily; languages
// that a model does not know are refused with those that it knows.
func TestTranslate(t *testing.T) {
	for _, name := range []string{"nllb", "mbart", "m2m100", "marian", "madlad", "t5"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(oracle.Repo(t), "test/e2e/testdata/translate", name)
			var want translations
			readJSON(t, filepath.Join(dir, "translate.json"), &want)
			var friendly, plain []string
			for _, c := range want.Cases {
				line, err := json.Marshal(map[string]any{"text": c.Text, "source_lang": c.Source, "target_lang": c.Target})
				if err != nil {
					t.Fatal(err)
				}
				friendly = append(friendly, string(line))
				if line, err = json.Marshal(map[string]any{"prompt": c.Text, "source_lang": c.Source, "target_lang": c.Target, "num_beams": 1}); err != nil {
					t.Fatal(err)
				}
				plain = append(plain, string(line))
			}
			friendly = append(friendly, `{"text":"a","source_lang":"xx","target_lang":"yy_nonsense"}`)
			out, errs, code := edged(t, "translate", "--model", dir, "--precision", "exact", "--batch", lines(t, friendly))
			answers := strings.Split(strings.TrimSpace(out), "\n")
			if code != 1 || len(answers) != len(friendly) {
				t.Fatalf("exit %d, %d answers to %d lines: %s%s", code, len(answers), len(friendly), out, errs)
			}
			for i, c := range want.Cases {
				var got struct {
					Translation string
					IDs         []int32
					Score       float64
				}
				if err := json.Unmarshal([]byte(answers[i]), &got); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got.IDs, c.Beams) || !(math.Abs(got.Score-c.Score) <= 1e-3) {
					t.Errorf("%s to %s: ids %v, score %v, want %v, %v (%s)", c.Source, c.Target, got.IDs, got.Score, c.Beams, c.Score, answers[i])
				}
				if strings.TrimSpace(got.Translation) != strings.TrimSpace(c.Translation) {
					t.Errorf("%s to %s: %q, want %q", c.Source, c.Target, got.Translation, c.Translation)
				}
			}
			if last := answers[len(answers)-1]; !strings.Contains(last, "error") || name != "t5" && !strings.Contains(last, want.Cases[0].Target) {
				t.Errorf("a language that there is not: %s", last)
			}
			out, errs, code = edged(t, "generate", "--model", dir, "--precision", "exact", "--batch", lines(t, plain))
			answers = strings.Split(strings.TrimSpace(out), "\n")
			if code != 0 || len(answers) != len(plain) {
				t.Fatalf("exit %d: %s%s", code, out, errs)
			}
			for i, c := range want.Cases {
				var got struct {
					IDs   []int32
					Usage struct {
						Prompt int `json:"prompt_tokens"`
					}
				}
				if err := json.Unmarshal([]byte(answers[i]), &got); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got.IDs, c.Greedy) || got.Usage.Prompt != len(c.IDs) {
					t.Errorf("%s to %s, greedily: %v of %d tokens, want %v of %d", c.Source, c.Target, got.IDs, got.Usage.Prompt, c.Greedy, len(c.IDs))
				}
			}
		})
	}
}

// TestTranslateOverMQTT: a request names its languages, and is refused where the model knows none.
func TestTranslateOverMQTT(t *testing.T) {
	dir := filepath.Join(oracle.Repo(t), "test/e2e/testdata/translate/nllb")
	var want translations
	readJSON(t, filepath.Join(dir, "translate.json"), &want)
	s := serve(t, "model.path="+dir, "backend.precision=exact", "adapters.dir="+t.TempDir())
	for i, c := range want.Cases {
		id := fmt.Sprintf("t%d", i)
		payload, err := json.Marshal(map[string]any{"id": id, "prompt": c.Text, "source_lang": c.Source, "target_lang": c.Target, "max_tokens": 13})
		if err != nil {
			t.Fatal(err)
		}
		s.publish("edged/test/request", string(payload))
		events := s.last("edged/test/response/" + id)
		if last := events[len(events)-1]; last.Error != nil || strings.TrimSpace(last.Text) != strings.TrimSpace(c.Translation) {
			t.Errorf("%s to %s: %q, want %q, %+v", c.Source, c.Target, last.Text, c.Translation, last.Error)
		}
	}
	s.publish("edged/test/request", `{"id":"no","prompt":"a","target_lang":"klingon"}`)
	events := s.last("edged/test/response/no")
	if e := events[len(events)-1].Error; e == nil || e.Code != "invalid_request" || !strings.Contains(e.Message, "deu_Latn") {
		t.Errorf("a language that there is not: %+v", e)
	}
	other := serve(t)
	other.publish("edged/test/request", `{"id":"no","prompt":"a","target_lang":"de"}`)
	events = other.last("edged/test/response/no")
	if e := events[len(events)-1].Error; e == nil || e.Code != "unsupported" {
		t.Errorf("a model that is told no languages: %+v", e)
	}
}

// lines writes a file of lines.
func lines(t *testing.T, all []string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lines.jsonl")
	if err := os.WriteFile(path, []byte(strings.Join(all, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
