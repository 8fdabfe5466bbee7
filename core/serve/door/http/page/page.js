// The page of a node: it asks the node every two seconds how it is, and talks to the model through the same paths as any
// other client. It loads nothing from elsewhere.
'use strict'

const $ = (id) => document.getElementById(id)
const every = 2000 // ms between two looks at the node
const kept = 60 // points of a plot: two minutes

// The token is kept for this tab only.
let token = sessionStorage.getItem('edged-token') || ''
const headers = (more) => (token ? { ...more, Authorization: 'Bearer ' + token } : more || {})

class Refused extends Error {
  constructor(status, message) {
    super(message)
    this.status = status
  }
}

async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: headers(options.headers) })
  if (answer.ok) return answer
  let message = answer.statusText
  try {
    const error = (await answer.json()).error
    message = error.message || error
  } catch {
    // A body that is no JSON says nothing to a person.
  }
  throw new Refused(answer.status, message)
}

// make builds an element; text is never read as HTML.
function make(name, properties = {}, ...children) {
  const element = document.createElement(name)
  for (const [key, value] of Object.entries(properties)) element.setAttribute(key, value)
  element.append(...children)
  return element
}

// Figures with their plots.

const figures = [
  ['Tokens per second', (now, before) => (before ? rate(now, before) : null), (v) => v.toFixed(1)],
  ['First token', (now) => now.stats.first_token_ms || null, (v) => v.toFixed(0) + ' ms'],
  ['Running', (now) => now.stats.running, (v) => String(v)],
  ['Waiting', (now) => now.stats.waiting, (v, now) => `${v} of ${now.status.queue.size}`],
  ['Answers', (now) => now.stats.finished, (v) => String(v)],
  ['Prompt from cache', (now) => (now.stats.backend && now.stats.prompt_tokens ? (100 * now.stats.backend.prefix_tokens) / now.stats.prompt_tokens : null), (v) => Math.min(v, 100).toFixed(0) + ' %'],
  ['Temperature', (now) => now.stats.cpu_temp_c ?? null, (v) => v.toFixed(0) + ' °C'],
  ['Memory', (now) => now.stats.memory_bytes, (v) => (v / 2 ** 20).toFixed(0) + ' MiB'],
].map(([name, value, text]) => ({ name, value, text, points: [], dd: null, line: null }))

let last = null // what the node said last

function rate(now, before) {
  const seconds = (now.at - before.at) / 1000
  return seconds > 0 ? Math.max(0, now.stats.tokens - before.stats.tokens) / seconds : null
}

function drawFigures() {
  for (const f of figures) {
    f.dd = make('dd', {}, '–')
    const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
    svg.setAttribute('viewBox', `0 0 ${kept - 1} 10`)
    svg.setAttribute('preserveAspectRatio', 'none')
    svg.setAttribute('aria-hidden', 'true')
    f.line = document.createElementNS('http://www.w3.org/2000/svg', 'polyline')
    svg.append(f.line)
    f.box = make('div', {}, make('dt', {}, f.name), f.dd, make('dd', {}, svg))
    $('figures').append(f.box)
  }
}

function showFigures(now) {
  for (const f of figures) {
    const value = f.value(now, last)
    f.box.hidden = value === null && f.points.length === 0
    if (value === null) continue
    f.dd.textContent = f.text(value, now)
    f.points.push(value)
    if (f.points.length > kept) f.points.shift()
    const top = Math.max(...f.points, 1e-9)
    const from = kept - f.points.length
    f.line.setAttribute('points', f.points.map((p, i) => `${from + i},${(9.5 - (9 * p) / top).toFixed(2)}`).join(' '))
  }
}

// The node.

function showState(word, text) {
  $('dot').className = 'dot ' + word
  if ($('state-text').textContent !== text) $('state-text').textContent = text // a screen reader says changes only
}

function showNode(now) {
  const s = now.status
  $('node').textContent = s.node
  document.title = 'edged ' + s.node
  showState(s.state, s.state + (s.reason ? ': ' + s.reason : ''))
  const power = s.power ? ` The processor is held down (${s.power.reasons.join(', ')}).` : ''
  const model = s.model ? `${s.model.name}, ${s.model.format}, context of ${s.model.context} tokens.` : 'No model is loaded.'
  const backend = s.backend ? ` Backend ${s.backend.name}.` : ''
  $('machine').textContent = model + backend + power
  $('about').textContent = `edged ${s.version}, up for ${Math.round(now.stats.uptime_s / 60)} minutes`
  showFigures(now)
  showAdapters(now.adapters)
  showModels(now.models || [])
  $('upload').hidden = !now.upload
}

let adaptersShown = ''

function showAdapters(adapters) {
  const text = JSON.stringify(adapters)
  if (text === adaptersShown) return // what a person selects or reads stays as it is
  adaptersShown = text
  const rows = adapters.map((a) =>
    make('tr', {}, make('th', { scope: 'row' }, a.name), make('td', {}, a.state), make('td', {}, a.kind || ''), make('td', {}, a.generation ? String(a.generation) : 'none'), make('td', {}, a.error || '')),
  )
  if (rows.length === 0) rows.push(make('tr', {}, make('td', { colspan: '5' }, 'There are none in the adapters folder.')))
  $('adapters').replaceChildren(...rows)
  loadModels()
}

let modelsShown = ''

// showModels shows the models folder, where there is one: a node with one model has said above what that is.
function showModels(models) {
  const text = JSON.stringify(models)
  if (text === modelsShown) return
  modelsShown = text
  $('models-card').hidden = models.length < 2 && !models.some((m) => m.error)
  const size = (m) => (m.bytes ? (m.bytes / 2 ** 20).toFixed(0) + ' MiB' : '')
  $('models').replaceChildren(
    ...models.map((m) => make('tr', {}, make('th', { scope: 'row' }, m.name), make('td', {}, m.state), make('td', {}, m.family || ''), make('td', {}, size(m)), make('td', {}, m.error || m.note || ''))),
  )
  if ($('model').options.length > 0) loadModels()
}

async function loadModels() {
  const list = (await (await ask('v1/models')).json()).data
  const chosen = $('model').value
  $('model').replaceChildren(...list.map((m) => make('option', { value: m.id }, m.parent ? `${m.id} (adapter)` : m.id)))
  if (list.some((m) => m.id === chosen)) $('model').value = chosen
}

let timer = 0

async function look() {
  clearTimeout(timer)
  try {
    const now = await (await ask('edged/node')).json()
    now.at = performance.now()
    $('unlock').hidden = true
    $('main').hidden = false
    showNode(now)
    last = now
  } catch (e) {
    if (e instanceof Refused && e.status === 401) {
      $('unlock').hidden = false
      $('main').hidden = true
      if (token) $('unlock-error').textContent = 'That is not the token.'
      showState('away', 'locked')
      $('token').focus()
      return
    }
    showState('away', e instanceof Refused ? e.message : 'no connection to the node')
  }
  timer = setTimeout(look, document.hidden ? 10 * every : every)
}

$('unlock').addEventListener('submit', (event) => {
  event.preventDefault()
  token = $('token').value.trim()
  sessionStorage.setItem('edged-token', token)
  look()
})
document.addEventListener('visibilitychange', () => document.hidden || look())

// The chat.

let conversation = []
let running = null // AbortController of the answer that comes

function turn(kind, who, text) {
  $('empty')?.remove()
  const said = make('span', { class: 'said' }, text)
  const element = make('div', { class: 'turn ' + kind }, make('span', { class: 'who' }, who), said)
  $('log').append(element)
  follow(true)
  return { element, said }
}

// follow keeps the end in sight, unless a person has scrolled away from it.
function follow(always) {
  const log = $('log')
  if (always || log.scrollHeight - log.scrollTop - log.clientHeight < 80) log.scrollTop = log.scrollHeight
}

// chunks yields the data of a stream of events.
async function* chunks(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  for (;;) {
    const { value, done } = await reader.read()
    if (done) return
    text += value
    const lines = text.split('\n')
    text = lines.pop()
    for (const line of lines) {
      if (!line.startsWith('data: ')) continue
      if (line === 'data: [DONE]') return
      yield JSON.parse(line.slice(6))
    }
  }
}

async function send(prompt) {
  turn('user', 'You', prompt)
  const talk = conversation // another one may have begun when the answer ends
  talk.push({ role: 'user', content: prompt })
  const system = $('system').value.trim()
  const request = {
    model: $('model').value || undefined,
    messages: system ? [{ role: 'system', content: system }, ...talk] : talk,
    stream: true,
    stream_options: { include_usage: true },
    context_policy: 'keep_system',
  }
  if ($('temperature').value !== '') request.temperature = Number($('temperature').value)
  if ($('max').value !== '') request.max_tokens = Number($('max').value)
  const answer = turn('model', $('model').value || 'Model', '')
  running = new AbortController()
  $('stop').disabled = false
  $('send').disabled = true
  const began = performance.now()
  let first = 0
  let text = ''
  let usage = null
  try {
    const response = await ask('v1/chat/completions', { method: 'POST', body: JSON.stringify(request), signal: running.signal, headers: { 'Content-Type': 'application/json' } })
    for await (const chunk of chunks(response.body)) {
      if (chunk.error) throw new Error(chunk.error.message)
      usage = chunk.usage || usage
      const piece = chunk.choices[0]?.delta?.content
      if (!piece) continue
      first = first || performance.now()
      text += piece
      answer.said.append(piece)
      follow(false)
    }
  } catch (e) {
    if (e.name !== 'AbortError') {
      answer.element.classList.add('error')
      answer.said.append((text ? '\n' : '') + e.message)
      $('spoken').textContent = e.message
    }
  }
  if (text) {
    talk.push({ role: 'assistant', content: text })
    $('spoken').textContent = text // once, and not word by word
  } else {
    talk.pop() // what got no answer is not asked again
  }
  if (usage && first) {
    const seconds = (performance.now() - first) / 1000
    // Pieces are gathered on their way: over a shorter time than this their number says nothing.
    const speed = usage.completion_tokens > 1 && seconds > 0.5 ? `, ${((usage.completion_tokens - 1) / seconds).toFixed(1)} tokens/s` : ''
    answer.element.append(make('span', { class: 'figures-line' }, `${usage.completion_tokens} tokens, first after ${Math.round(first - began)} ms${speed}`))
    follow(false)
  }
  running = null
  $('stop').disabled = true
  $('send').disabled = false
}

$('ask').addEventListener('submit', (event) => {
  event.preventDefault()
  const prompt = $('prompt').value.trim()
  if (!prompt || running) return
  $('prompt').value = ''
  send(prompt)
})
$('prompt').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault()
    $('ask').requestSubmit()
  }
})
document.addEventListener('keydown', (event) => event.key === 'Escape' && running?.abort())
$('stop').addEventListener('click', () => {
  running?.abort()
  $('prompt').focus()
})
$('clear').addEventListener('click', () => {
  running?.abort()
  conversation = []
  $('log').replaceChildren(make('p', { class: 'hint', id: 'empty' }, 'A new conversation.'))
  $('prompt').focus()
})

// Uploads: the files of an adapter, out of a folder or as they are. What else lies in a training's folder stays there.

const parts = /^adapter_(config\.json|model\.safetensors)(\.minisig)?$/
let uploading = false

// upload sends files as the adapter of a name, and says what became of it.
async function upload(name, files) {
  const taken = files.filter((f) => parts.test(f.name) || /\.gguf(\.minisig)?$/.test(f.name))
  name = $('adapter').value.trim() || name
  $('upload-error').textContent = ''
  if (uploading) return
  if (taken.length === 0) {
    $('upload-error').textContent = 'There is no adapter in it: that is a folder with adapter_config.json and adapter_model.safetensors, or a .gguf file.'
    return
  }
  uploading = true
  $('progress').textContent = `Sending ${name}: ${(taken.reduce((sum, f) => sum + f.size, 0) / 2 ** 20).toFixed(1)} MiB …`
  const form = new FormData()
  for (const f of taken) form.append('file', f, f.name)
  try {
    await ask('edged/adapters/' + encodeURIComponent(name), { method: 'POST', body: form })
    $('progress').textContent = `${name} has arrived. The table says what the node makes of it.`
    $('adapter').value = ''
    look()
  } catch (e) {
    $('progress').textContent = ''
    $('upload-error').textContent = `${name} was not taken: ${e.message}`
  }
  uploading = false
}

$('upload').addEventListener('submit', (event) => event.preventDefault())
$('folder').addEventListener('change', (event) => {
  const files = [...event.target.files]
  if (files.length === 0) return
  const [root] = files[0].webkitRelativePath.split('/')
  // Those of the folder itself, not of a checkpoint within it.
  upload(root, files.filter((f) => f.webkitRelativePath.split('/').length === 2))
  event.target.value = ''
})
$('file').addEventListener('change', (event) => {
  const files = [...event.target.files]
  if (files.length > 0) upload(files[0].name.replace(/\.gguf(\.minisig)?$/, ''), files)
  event.target.value = ''
})

// within lists the files of a dropped folder, which come in pieces.
async function within(folder) {
  const reader = folder.createReader()
  const files = []
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed))
    if (some.length === 0) return files
    for (const entry of some) if (entry.isFile) files.push(await new Promise((done, failed) => entry.file(done, failed)))
  }
}

$('drop').addEventListener('dragover', (event) => {
  event.preventDefault()
  $('drop').classList.add('over')
})
$('drop').addEventListener('dragleave', () => $('drop').classList.remove('over'))
$('drop').addEventListener('drop', async (event) => {
  event.preventDefault()
  $('drop').classList.remove('over')
  const files = [...event.dataTransfer.files] // both are gone when this function waits
  const entries = [...event.dataTransfer.items].map((i) => i.webkitGetAsEntry?.()).filter(Boolean)
  const folder = entries.find((e) => e.isDirectory)
  try {
    if (folder) await upload(folder.name, await within(folder))
    else if (files.length > 0) await upload(parts.test(files[0].name) ? 'adapter' : files[0].name.replace(/\.gguf(\.minisig)?$/, ''), files)
  } catch (e) {
    $('upload-error').textContent = 'It could not be read: ' + e.message
  }
})

drawFigures()
look()
