// Loads docs/node-red/flows.json into the Node-RED that runs, presses its buttons and asks on its HTTP endpoint, and compares
// what its debug nodes show with what they are to show.
import fs from 'node:fs'
import WebSocket from 'ws'

const { NODE_RED_URL, FLOWS, EDGED_MQTT_PORT, EDGED_NODE } = process.env
const text = fs.readFileSync(FLOWS, 'utf8').replaceAll('edged/pi/', `edged/${EDGED_NODE}/`)
const flows = JSON.parse(text)
for (const n of flows) if (n.type === 'mqtt-broker') n.port = EDGED_MQTT_PORT

let failed = 0, passed = 0
const check = (name, ok, seen) => {
  if (ok) { passed++; console.log(`ok      ${name}`) } else { failed++; console.log(`FAILED  ${name}: ${JSON.stringify(seen)}`) }
}
const of = (tab, name) => flows.find(n => n.name === name && flows.find(t => t.id === n.z)?.label === tab)

const shown = []
const socket = new WebSocket(NODE_RED_URL.replace('http', 'ws') + '/comms')
await new Promise((ok, bad) => { socket.on('open', ok); socket.on('error', bad) })
socket.send(JSON.stringify({ subscribe: 'debug' }))
socket.on('message', data => {
  for (const m of [JSON.parse(data)].flat()) if (m.topic === 'debug') shown.push(m.data)
})
const until = async (what, ready) => {
  for (const end = Date.now() + 120_000; Date.now() < end;) {
    const found = await ready()
    if (found) return found
    await new Promise(go => setTimeout(go, 100))
  }
  throw new Error(`not within two minutes: ${what}; shown: ${JSON.stringify(shown)}`)
}

const status = new Map()
const comms = new WebSocket(NODE_RED_URL.replace('http', 'ws') + '/comms')
await new Promise((ok, bad) => { comms.on('open', ok); comms.on('error', bad) })
comms.send(JSON.stringify({ subscribe: 'status/#' }))
comms.on('message', data => {
  for (const m of [JSON.parse(data)].flat()) if (m.topic?.startsWith('status/')) status.set(m.topic.slice(7), m.data)
})

const deployed = await fetch(NODE_RED_URL + '/flows', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(flows) })
check('the flows are taken', deployed.status === 204, await deployed.text())
const listeners = flows.filter(n => n.type === 'mqtt in')
await until('every mqtt node is connected', () => listeners.every(n => status.get(n.id)?.fill === 'green'))
check('every mqtt node is connected', true)

const press = async (tab, name) => {
  const answer = await fetch(`${NODE_RED_URL}/inject/${of(tab, name).id}`, { method: 'POST' })
  if (!answer.ok) throw new Error(`${tab}: ${name}: ${answer.status}`)
}
const messages = (tab, ...names) => shown.filter(m => names.some(name => m.id === of(tab, name).id))
const wrong = () => shown.filter(m => m.level || m.name === undefined)

await press('edged: ask', 'a question')
const [answer] = await until('an answer', () => { const m = messages('edged: ask', 'answer', 'no answer'); return m.length && m })
check('ask: an answer, and no error', answer.id === of('edged: ask', 'answer').id && answer.msg.length > 0, answer)

await press('edged: decide', 'a reading')
const [decision] = await until('a decision', () => { const m = messages('edged: decide', 'open the window', 'leave it'); return m.length && m })
const said = JSON.parse(decision.msg)
check('decide: an object of the form', typeof said.open === 'boolean' && typeof said.reason === 'string', decision)
check('decide: the switch reads it', (decision.id === of('edged: decide', 'open the window').id) === said.open, decision)

await press('edged: while it writes', 'a question')
const written = await until('the whole text', () => {
  const m = messages('edged: while it writes', 'text').map(x => x.msg)
  return m.length > 2 && m.at(-1) === m.at(-2) && m
})
check('while it writes: each is longer than the one before', written.slice(1).every((x, i) => x.startsWith(written[i])), written)

const ask = prompt => fetch(NODE_RED_URL + '/ask', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ prompt }) })
const both = await Promise.all(['Hello', 'Turn on the light.'].map(ask))
const bodies = await Promise.all(both.map(r => r.json()))
check('HTTP: two questions at once are answered', both.every(r => r.status === 200) && bodies.every(b => b.text.length > 0), bodies)
const empty = await ask('')
check('HTTP: an empty prompt is an error with a sentence', empty.status === 502 && (await empty.json()).message.length > 0, empty.status)
check('no node complained', wrong().length === 0, wrong())

console.log(`${passed} right, ${failed} wrong`)
process.exit(failed ? 1 : 0)
