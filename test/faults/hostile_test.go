package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"edged/test/brokers"
)

// foe is a client that does its worst. Its goroutines end with stop.
type foe struct {
	t    *testing.T
	addr string
	stop chan struct{}
	wg   sync.WaitGroup
	ids  atomic.Int64

	mu    sync.Mutex
	conns []net.Conn
}

func newFoe(t *testing.T, addr string) *foe { return &foe{t: t, addr: addr, stop: make(chan struct{})} }

// end closes everything and waits.
func (f *foe) end() {
	close(f.stop)
	f.mu.Lock()
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

func (f *foe) stopped() bool {
	select {
	case <-f.stop:
		return true
	default:
		return false
	}
}

// forever repeats something, with pauses so that the test's own computing is not what keeps others waiting.
func (f *foe) forever(pause time.Duration, do func()) {
	f.wg.Go(func() {
		for {
			do()
			select {
			case <-f.stop:
				return
			case <-time.After(pause):
			}
		}
	})
}

// dial opens a connection that says nothing yet; nil: it was not taken.
func (f *foe) dial() net.Conn {
	c, err := net.DialTimeout("tcp", f.addr, 5*time.Second)
	if err != nil {
		return nil
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped() {
		_ = c.Close()
	}
	f.conns = append(f.conns, c)
	return c
}

// say writes packets, and does not care what becomes of them.
func say(c net.Conn, all ...packets.ControlPacket) {
	if c == nil {
		return
	}
	var b bytes.Buffer
	for _, p := range all {
		_ = p.Write(&b)
	}
	_, _ = c.Write(b.Bytes())
}

// connect connects under an id, with its keep-alive off, and reads nothing but the CONNACK.
func (f *foe) connect(id string, change ...func(*packets.ConnectPacket)) net.Conn {
	p := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	p.ProtocolName, p.ProtocolVersion, p.ClientIdentifier, p.CleanSession = "MQTT", 4, id, true
	for _, ch := range change {
		ch(p)
	}
	c := f.dial()
	say(c, p)
	if c != nil {
		_, _ = packets.ReadPacket(c)
	}
	return c
}

func lasting(p *packets.ConnectPacket) { p.CleanSession = false }

func subscription(qos byte, filters ...string) packets.ControlPacket {
	p := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	p.MessageID, p.Topics, p.Qoss = 1, filters, bytes.Repeat([]byte{qos}, len(filters))
	return p
}

func message(topic string, qos byte, retain bool, payload []byte) packets.ControlPacket {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Qos, p.Retain, p.Payload, p.MessageID = topic, qos, retain, payload, 7
	return p
}

// talker is a connection whose answers are read away.
func (f *foe) talker(id string, change ...func(*packets.ConnectPacket)) net.Conn {
	c := f.connect(id, change...)
	if c != nil {
		f.wg.Go(func() { _, _ = io.Copy(io.Discard, c) })
	}
	return c
}

// request publishes a request of the client foe, under an id of its own.
func (f *foe) request(c net.Conn, fields string) {
	text := fmt.Sprintf(`{"id":"foe%d",%s}`, f.ids.Add(1), fields)
	say(c, message("edged/test/request/foe", 1, false, []byte(text)))
}

// requests keeps asking.
func (f *foe) requests(pause time.Duration, fields ...string) {
	c := f.talker("foe")
	f.forever(pause, func() {
		for _, text := range fields {
			f.request(c, text)
		}
	})
}

func quoted(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}

func schemaRequest(schema string) string {
	return `"prompt":"x","max_tokens":50,"response_format":{"type":"json_schema","json_schema":{"name":"s","schema":` + schema + `}}`
}

func numbers(from, n int) string {
	list := make([]int, n)
	for i := range list {
		list[i] = from + i
	}
	return quoted(list)
}

// chain is a schema whose size doubles with each of its levels.
func chain(levels int) string {
	var b strings.Builder
	b.WriteString(`{"allOf":[{"$ref":"#/$defs/n0"},{"type":"string"}],"$defs":{`)
	for i := range levels {
		fmt.Fprintf(&b, `"n%d":{"allOf":[{"$ref":"#/$defs/n%d"},{"$ref":"#/$defs/n%d"}]},`, i, i+1, i+1)
	}
	fmt.Fprintf(&b, `"n%d":{"type":"string"}}}`, levels)
	return b.String()
}

func enums() string {
	var parts []string
	for i := range 200 {
		parts = append(parts, `{"enum":`+numbers(100*i, 100)+`}`)
	}
	return `{"oneOf":[` + strings.Join(parts, ",") + `]}`
}

// hostility is one way to do one's worst.
type hostility struct {
	name  string
	short bool // part of the short set
	does  func(f *foe)
}

const many = `"prompt":"Tell me a very long story.","max_tokens":400,"ignore_eos":true`

// hostilities are what any one client may do.
func hostilities() []hostility {
	big := bytes.Repeat([]byte("x"), 500<<10)
	kb := bytes.Repeat([]byte("x"), 1<<10)
	ambiguous := `"prompt":"x","max_tokens":300,"grammar":` + quoted(`root ::= (a | b | c | d)* "!"
a ::= [a-z ]{0,8} a? | [a-z ]*
b ::= [a-z ]{0,8} b? | [a-z ]*
c ::= [a-z ]{0,8} c? | [a-z ]*
d ::= [a-z ]{0,8} d? | [a-z ]*`)
	return []hostility{
		// The broker.
		{"a subscriber stops reading", true, func(f *foe) {
			say(f.connect("asleep"), subscription(1, "#"))
			c := f.talker("loud")
			f.forever(20*time.Millisecond, func() { say(c, message("noise", 0, false, big)) })
		}},
		{"twenty subscribers stop reading", false, func(f *foe) {
			for i := range 20 {
				say(f.connect("asleep"+strconv.Itoa(i)), subscription(1, "#"))
			}
			c := f.talker("loud")
			f.forever(20*time.Millisecond, func() { say(c, message("noise", 1, false, big)) })
		}},
		{"it reads no acknowledgements", true, func(f *foe) {
			c := f.connect("deaf")
			f.wg.Go(func() {
				for !f.stopped() {
					say(c, packets.NewControlPacket(packets.Pingreq))
					if c == nil {
						return
					}
				}
			})
		}},
		{"a flood of QoS 0", true, func(f *foe) {
			c := f.talker("flood")
			f.forever(time.Millisecond, func() {
				for range 20 {
					say(c, message("noise", 0, false, kb))
				}
			})
		}},
		{"large retained messages on ever new topics", true, func(f *foe) {
			c, n := f.talker("keeper"), 0
			f.forever(10*time.Millisecond, func() { n++; say(c, message("kept/"+strconv.Itoa(n), 1, true, big)) })
		}},
		{"small retained messages on ever new topics", false, func(f *foe) {
			c, n := f.talker("keeper"), 0
			f.forever(time.Millisecond, func() { n++; say(c, message("kept/"+strconv.Itoa(n), 0, true, []byte("x"))) })
		}},
		{"retained messages of many clients", false, func(f *foe) {
			n := 0
			f.forever(10*time.Millisecond, func() {
				n++
				c := f.connect("keeper" + strconv.Itoa(n))
				say(c, message("kept/"+strconv.Itoa(n), 1, true, big))
				if c != nil {
					_, _ = packets.ReadPacket(c)
					_ = c.Close()
				}
			})
		}},
		{"sessions that nobody comes back for", true, func(f *foe) {
			for i := range 700 {
				c := f.connect("gone"+strconv.Itoa(i), lasting)
				say(c, subscription(1, "noise/#"))
				if c != nil {
					_ = c.Close()
				}
			}
			c := f.talker("loud")
			f.forever(10*time.Millisecond, func() { say(c, message("noise/x", 1, false, kb)) })
		}},
		{"large wills", false, func(f *foe) {
			n := 0
			f.forever(5*time.Millisecond, func() {
				n++
				c := f.connect("will"+strconv.Itoa(n), func(p *packets.ConnectPacket) {
					p.CleanSession, p.WillFlag, p.WillRetain, p.WillTopic, p.WillMessage = false, true, true, "w/"+strconv.Itoa(n), big[:60000]
				})
				if c != nil {
					_ = c.Close()
				}
			})
		}},
		{"filters of 30,000 levels", true, func(f *foe) {
			c := f.talker("deep")
			f.forever(10*time.Millisecond, func() { say(c, subscription(1, strings.Repeat("/", 30_000), strings.Repeat("+/", 20_000)+"#")) })
		}},
		{"topics of 30,000 levels", false, func(f *foe) {
			c := f.talker("deep")
			f.forever(10*time.Millisecond, func() { say(c, message(strings.Repeat("/", 30_000), 1, true, kb)) })
		}},
		{"filters that all match", false, func(f *foe) {
			c := f.talker("wild")
			var filters []string
			for i := range 256 {
				levels := strings.Split("a/a/a/a/a/a/a/a", "/")
				for k := range levels {
					if i>>k&1 == 1 {
						levels[k] = "+"
					}
				}
				filters = append(filters, strings.Join(levels, "/")+"/#")
			}
			say(c, subscription(0, filters...))
			f.forever(time.Millisecond, func() { say(c, message("a/a/a/a/a/a/a/a/x", 0, false, kb)) })
		}},
		{"subscriptions to everything again and again", false, func(f *foe) {
			c := f.talker("greedy")
			f.forever(time.Millisecond, func() { say(c, subscription(1, "#", "+/#", "+/+/#")) })
		}},
		{"connections come and go", false, func(f *foe) {
			n := 0
			f.forever(time.Millisecond, func() {
				n++
				if c := f.connect("fly" + strconv.Itoa(n%50)); c != nil {
					_ = c.Close()
				}
			})
		}},
		{"connections that say nothing", true, func(f *foe) {
			f.forever(2*time.Millisecond, func() { f.dial() })
		}},
		{"packets that are only promised", false, func(f *foe) {
			for i := range 60 {
				c := f.talker("half" + strconv.Itoa(i))
				if c != nil {
					_, _ = c.Write([]byte{0x30, 0xff, 0xff, 0x3f, 0, 1, 'a'}) // a megabyte
				}
			}
		}},
		{"garbage", true, func(f *foe) {
			f.forever(2*time.Millisecond, func() {
				if c := f.dial(); c != nil {
					_, _ = c.Write([]byte("\x10\xff\xff\xff\x7fGET / HTTP/1.1\r\n\r\n"))
					_ = c.Close()
				}
			})
		}},
		{"one id from two sides", false, func(f *foe) {
			f.forever(2*time.Millisecond, func() { f.talker("twin", lasting) })
		}},
		{"unfinished messages of QoS 2", false, func(f *foe) {
			c, id := f.talker("two"), uint16(0)
			f.forever(time.Millisecond, func() {
				id++
				p := message("noise", 2, false, kb).(*packets.PublishPacket)
				p.MessageID = max(id, 1)
				say(c, p)
			})
		}},
		// The door.
		{"a flood of requests", true, func(f *foe) { f.requests(time.Millisecond, many) }},
		{"sixteen choices, eight times", true, func(f *foe) { f.requests(5*time.Millisecond, many+`,"n":16`) }},
		{"the best of sixteen", false, func(f *foe) { f.requests(5*time.Millisecond, many+`,"best_of":16,"n":1`) }},
		{"sixteen choices with log-probabilities for one that does not read", false, func(f *foe) {
			say(f.connect("asleep"), subscription(1, "edged/test/response/foe/#"))
			f.requests(5*time.Millisecond, many+`,"n":16,"stream":true,"logprobs":true,"top_logprobs":20`)
		}},
		{"the highest priority", true, func(f *foe) {
			f.requests(5*time.Millisecond, many+`,"stream":true,"priority":10`, many+`,"n":16,"priority":10`)
		}},
		{"long prompts", true, func(f *foe) {
			f.requests(20*time.Millisecond, `"max_tokens":4,"prompt":`+quoted(strings.Repeat("All work and no play. ", 60)), `"max_tokens":4,"prompt":`+quoted(strings.Repeat("x y ", 100_000)))
		}},
		{"plain questions under many tags", true, func(f *foe) {
			c, n := f.talker("foe"), 0
			f.forever(time.Millisecond, func() { n++; say(c, message("edged/test/ask/t"+strconv.Itoa(n), 1, false, []byte("Tell me a story."))) })
		}},
		{"cancels", true, func(f *foe) {
			c, n := f.talker("foe"), 0
			f.forever(time.Millisecond, func() {
				n++
				say(c, message("edged/test/cancel/foe", 0, false, []byte("foe"+strconv.Itoa(n))))
				if n%10 == 0 {
					f.request(c, many)
				}
			})
		}},
		{"deadlines of a millisecond", true, func(f *foe) { f.requests(time.Millisecond, many+`,"deadline_ms":1`) }},
		{"the same id", false, func(f *foe) {
			c, n := f.talker("foe"), 0
			f.forever(time.Millisecond, func() {
				n++
				say(c, message("edged/test/request/foe", 1, false, fmt.Appendf(nil, `{"id":"same",%s,"seed":%d}`, many, n%2)))
			})
		}},
		{"what is no JSON", false, func(f *foe) {
			c := f.talker("foe")
			f.forever(time.Millisecond, func() { say(c, message("edged/test/request/foe", 1, false, []byte(`{"id":"x","prompt":`))) })
		}},
		{"nested JSON", true, func(f *foe) {
			c := f.talker("foe")
			deep := []byte(`{"id":"deep","prompt":"x","template_vars":{"a":` + strings.Repeat("[", 300_000) + strings.Repeat("]", 300_000) + `}}`)
			f.forever(5*time.Millisecond, func() { say(c, message("edged/test/request/foe", 1, false, deep)) })
		}},
		{"wide JSON", false, func(f *foe) {
			var b strings.Builder
			for i := range 60_000 {
				fmt.Fprintf(&b, `"k%d":%d,`, i, i)
			}
			f.requests(5*time.Millisecond, `"prompt":"x","template_vars":{`+b.String()+`"z":1}`)
		}},
		{"a thousand messages", false, func(f *foe) {
			f.requests(5*time.Millisecond, `"max_tokens":1,"messages":[`+strings.Repeat(`{"role":"user","content":"x"},{"role":"assistant","content":"y"},`, 500)+`{"role":"user","content":"z"}]`)
		}},
		{"messages beyond the limit", false, func(f *foe) {
			c := f.talker("foe")
			huge := bytes.Repeat([]byte("x"), 1<<20+30<<10)
			f.forever(20*time.Millisecond, func() { say(c, message("edged/test/request/foe", 1, false, huge)) })
		}},
		{"answers elsewhere", false, func(f *foe) {
			f.requests(time.Millisecond, many+`,"reply_to":"edged/test/request/good"`, many+`,"reply_to":"a/+/#"`)
		}},
		{"texts to embed", false, func(f *foe) {
			texts := make([]string, 256)
			for i := range texts {
				texts[i] = "some words to embed " + strconv.Itoa(i)
			}
			c := f.talker("foe")
			f.forever(10*time.Millisecond, func() {
				say(c, message("edged/test/embed/foe", 1, false, fmt.Appendf(nil, `{"id":"foe%d","texts":%s}`, f.ids.Add(1), quoted(texts))))
			})
		}},
		{"long scores", false, func(f *foe) {
			c := f.talker("foe")
			f.forever(10*time.Millisecond, func() {
				say(c, message("edged/test/score/foe", 1, false, fmt.Appendf(nil, `{"id":"foe%d","ids":%s}`, f.ids.Add(1), numbers(1, 150))))
			})
		}},
		// Forms.
		{"a schema that doubles", true, func(f *foe) { f.requests(20*time.Millisecond, schemaRequest(chain(40))) }},
		{"two long enums at once", true, func(f *foe) {
			f.requests(20*time.Millisecond, schemaRequest(`{"allOf":[{"enum":`+numbers(0, 2000)+`},{"enum":`+numbers(1000, 2000)+`}]}`))
		}},
		{"many enums of which one", false, func(f *foe) { f.requests(20*time.Millisecond, schemaRequest(enums())) }},
		{"a schema as a tool's parameters", true, func(f *foe) {
			f.requests(20*time.Millisecond, `"prompt":"x","max_tokens":20,"tool_choice":"required","tools":[{"type":"function","function":{"name":"t","parameters":`+chain(30)+`}}]`)
		}},
		{"an expression that explodes", true, func(f *foe) {
			f.requests(20*time.Millisecond, `"prompt":"x","max_tokens":50,"response_format":{"type":"regex","regex":"((a{1,1000}){1,1000}){1,1000}"}`,
				`"prompt":"x","max_tokens":50,"response_format":{"type":"regex","regex":"(a|b|ab)*c(a|b|ab)*d(.*a){20}"}`)
		}},
		{"an ambiguous grammar in every place", true, func(f *foe) { f.requests(10*time.Millisecond, ambiguous) }},
		{"a grammar of sixteen choices", false, func(f *foe) { f.requests(10*time.Millisecond, ambiguous+`,"n":16`) }},
		{"a grammar without an end", false, func(f *foe) {
			f.requests(10*time.Millisecond, `"prompt":"x","max_tokens":300,"grammar":`+quoted("root ::= a\na ::= b a | b\nb ::= c b | c\nc ::= a c | [a-z]"))
		}},
		{"many stop texts and biases", false, func(f *foe) {
			stops, bias := make([]string, 16), map[string]float64{}
			for i := range stops {
				stops[i] = strings.Repeat("ab", 500) + strconv.Itoa(i)
			}
			for i := range 200 {
				bias[strconv.Itoa(i)] = 1
			}
			f.requests(5*time.Millisecond, many+`,"stop":`+quoted(stops)+`,"logit_bias":`+quoted(bias))
		}},
	}
}

// friend is another client, whose short requests are to be answered.
type friend struct {
	t      *testing.T
	client mqtt.Client
	number int
	mu     sync.Mutex
	wait   map[string]chan event
}

func newFriend(t *testing.T, url string) *friend {
	t.Helper()
	f := &friend{t: t, wait: map[string]chan event{}}
	f.client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetClientID("good").SetCleanSession(false).
		SetConnectRetry(true).SetConnectRetryInterval(50 * time.Millisecond).SetMaxReconnectInterval(100 * time.Millisecond))
	for _, token := range []mqtt.Token{f.client.Connect(), nil} {
		if token == nil {
			token = f.client.Subscribe("edged/test/response/good/+", 1, f.take)
		}
		if !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	t.Cleanup(func() { f.client.Disconnect(50) })
	return f
}

func (f *friend) take(_ mqtt.Client, m mqtt.Message) {
	var e event
	if json.Unmarshal(m.Payload(), &e) != nil || e.Done != true {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.wait[e.ID]; c != nil {
		c <- e
		delete(f.wait, e.ID)
	}
}

// ask asks for 15 tokens and returns how long they took.
func (f *friend) ask() time.Duration {
	f.t.Helper()
	began := time.Now()
	if e := f.request(fmt.Sprintf("What is this number, %d?", f.number)); e.Error != nil {
		f.t.Errorf("another client's request got %+v", *e.Error)
	}
	return time.Since(began)
}

// request asks for 15 tokens and returns the last event.
func (f *friend) request(prompt string) event {
	f.t.Helper()
	f.number++
	id, answer := fmt.Sprint("g", f.number), make(chan event, 1)
	f.mu.Lock()
	f.wait[id] = answer
	f.mu.Unlock()
	f.client.Publish("edged/test/request/good", 1, false, fmt.Sprintf(`{"id":%q,"prompt":%q,"max_tokens":15,"ignore_eos":true,"temperature":0}`, id, prompt))
	select {
	case e := <-answer:
		return e
	case <-time.After(time.Minute):
		f.t.Errorf("another client's request was not answered in a minute")
		return event{}
	}
}

// TestHostileClients: with any one client doing its worst, another client's 15 tokens come within three times their quiet time and a
// second, the daemon stays under 200 MB, and SIGTERM ends it within its grace and five seconds. A shared machine is given more in
// the short set; the long one holds to the figures, and ends the node beside each of them.
func TestHostileClients(t *testing.T) {
	const grace = 3 * time.Second
	port := brokers.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	r := &rig{t: t, dir: t.TempDir(), seen: map[int]bool{}}
	r.configure("embedded", "mqtt.listen="+addr, fmt.Sprintf("node.shutdown_grace=%v", grace), "inbox.dedupe_window=1s")
	lives := 0
	up := func() {
		r.start()
		lives++
		eventually(t, "the node is online", func() bool {
			data, _ := os.ReadFile(r.log)
			return bytes.Count(data, []byte("msg=online ")) >= lives
		})
	}
	up()
	good := newFriend(t, "tcp://"+addr)
	good.ask() // what is computed once
	var quiets []time.Duration
	for range 5 {
		quiets = append(quiets, good.ask())
	}
	slices.Sort(quiets)
	quiet := quiets[len(quiets)/2]
	bound := 3*quiet + time.Second
	if !soaking() {
		bound *= 6
	}
	t.Logf("quiet: %v, bound %v", quiet, bound)
	outer := t
	for _, h := range hostilities() {
		if !h.short && !soaking() {
			continue
		}
		t.Run(h.name, func(t *testing.T) {
			good.t = t
			f := newFoe(t, addr)
			before := r.refusals()
			h.does(f)
			time.Sleep(500 * time.Millisecond) // it is under way
			var worst time.Duration
			most := 0
			for range 4 {
				worst = max(worst, good.ask())
				most = max(most, usage(t, r.daemon.Process.Pid).memory)
			}
			t.Logf("worst %v, %.1f times quiet; daemon %d MB; refused%s", worst.Round(time.Millisecond), worst.Seconds()/quiet.Seconds(), most>>10,
				strings.TrimPrefix(r.refusals(), before))
			if worst > bound {
				t.Errorf("another client waited %v, and %v are allowed", worst, bound)
			}
			if most > 200<<10 {
				t.Errorf("the daemon has %d MB", most>>10)
			}
			if soaking() { // the end comes beside it
				r.ends(t, grace)
				f.end()
				up()
				number := good.number
				good.client.Disconnect(50)
				good = newFriend(outer, "tcp://"+addr) // what the broker knew is gone with it
				good.number = number
				return
			}
			f.end()
		})
	}
	good.t = t
	// The last one's requests may still run; and one that does not read is there at the end.
	f := newFoe(t, addr)
	hostilities()[0].does(f)
	hostilities()[20].does(f)
	good.ask()
	r.ends(t, grace)
	f.end()
}

// refusals are the codes of the errors that the log has so far.
func (r *rig) refusals() string {
	data, err := os.ReadFile(r.log)
	if err != nil {
		r.t.Fatal(err)
	}
	counts := map[string]int{}
	for _, m := range regexp.MustCompile(`client=foe\d* code=(\w+)`).FindAllSubmatch(data, -1) {
		counts[string(m[1])]++
	}
	var out strings.Builder
	for _, code := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&out, " %s: %d", code, counts[code])
	}
	return out.String()
}

// ends ends the node by SIGTERM, within its grace and five seconds.
func (r *rig) ends(t *testing.T, grace time.Duration) {
	t.Helper()
	for _, pid := range r.plugins() {
		r.seen[pid] = true
	}
	began := time.Now()
	ended := make(chan error, 1)
	_ = r.daemon.Process.Signal(syscall.SIGTERM)
	go func() { ended <- r.daemon.Wait() }()
	select {
	case <-ended:
		t.Logf("SIGTERM: ended after %v", time.Since(began).Round(time.Millisecond))
	case <-time.After(grace + 5*time.Second):
		t.Errorf("it still runs %v after SIGTERM", time.Since(began))
		_ = r.daemon.Process.Kill()
		<-ended
	}
	r.daemon = nil
	r.orphans()
}
