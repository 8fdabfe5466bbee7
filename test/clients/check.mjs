// Unchanged JavaScript clients against a running edged. run starts it; every check is one thing that a user of a client does.
import assert from 'node:assert/strict'
import OpenAI from 'openai'
import { Ollama } from 'ollama'
import { generateText, streamText, embedMany, generateObject, tool, stepCountIs, jsonSchema } from 'ai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai'
import { z } from 'zod'

const { EDGED_URL: url, EDGED_LOCKED_URL: lockedURL, EDGED_TOKEN: token, EDGED_MODEL: model } = process.env
const ask = [{ role: 'user', content: 'Turn on the light in the hall.' }]
const parameters = { type: 'object', properties: { room: { enum: ['hall', 'shed'] }, on: { type: 'boolean' } }, required: ['room', 'on'] }
const light = { type: 'function', function: { name: 'light', description: 'Switch a light.', parameters } }
const schema = { type: 'object', properties: { room: { enum: ['hall', 'shed'] } }, required: ['room'], additionalProperties: false }
const client = new OpenAI({ baseURL: url + '/v1', apiKey: 'unused' })
const locked = new OpenAI({ baseURL: lockedURL + '/v1', apiKey: token })
const long = { model, messages: ask, stream: true, max_tokens: 450, ignore_eos: true }
const pause = (ms) => new Promise((done) => setTimeout(done, ms))

const checks = {
  async openaiChat() {
    const r = await client.chat.completions.create({ model, messages: ask, max_tokens: 20, temperature: 0 })
    assert(r.choices[0].message.content)
    let text = ''
    for await (const c of await client.chat.completions.create({ model, messages: ask, max_tokens: 20, temperature: 0, stream: true })) text += c.choices[0]?.delta?.content ?? ''
    assert.equal(text, r.choices[0].message.content)
    const final = await client.chat.completions.stream({ model, messages: ask, temperature: 0 }).finalChatCompletion()
    assert(final.choices[0].message.content)
  },
  async openaiTools() {
    const r = await client.chat.completions.create({ model, messages: ask, tools: [light], tool_choice: 'required', max_tokens: 120 })
    const [call] = r.choices[0].message.tool_calls
    assert(['hall', 'shed'].includes(JSON.parse(call.function.arguments).room))
    const back = await client.chat.completions.create({ model, max_tokens: 20, tools: [light], messages: [...ask, r.choices[0].message, { role: 'tool', tool_call_id: call.id, content: 'done' }] })
    assert(back.choices[0].finish_reason)
    const final = await client.chat.completions.stream({ model, messages: ask, tools: [light], tool_choice: 'required', max_tokens: 120 }).finalChatCompletion()
    assert.equal(final.choices[0].message.tool_calls[0].function.name, 'light')
    assert.equal(final.choices[0].finish_reason, 'tool_calls')
  },
  async openaiSchema() {
    const r = await client.chat.completions.create({ model, messages: ask, max_tokens: 60, response_format: { type: 'json_schema', json_schema: { name: 'room', strict: true, schema } } })
    assert(['hall', 'shed'].includes(JSON.parse(r.choices[0].message.content).room))
  },
  async openaiEmbeddings() {
    const r = await client.embeddings.create({ model, input: ['light', 'lamp'] })
    assert.equal(r.data.length, 2)
    assert(Math.abs(r.data[0].embedding.reduce((s, x) => s + x * x, 0) - 1) < 1e-3)
  },
  async openaiResponses() {
    const r = await client.responses.create({ model, input: 'Hello', max_output_tokens: 60, temperature: 0 })
    assert(r.output_text)
    let text = ''
    for await (const e of await client.responses.create({ model, input: 'Hello', temperature: 0, stream: true })) if (e.type === 'response.output_text.delta') text += e.delta
    assert(text)
  },
  async openaiErrors() {
    await assert.rejects(client.chat.completions.create({ model: 'gpt-4o', messages: ask }), (e) => e.status === 404 && /is not served/.test(e.message))
    await assert.rejects(client.chat.completions.create({ model, messages: ask, nonsense: 1 }), (e) => e.status === 400 && /nonsense/.test(e.message))
    await assert.rejects(new OpenAI({ baseURL: lockedURL + '/v1', apiKey: 'wrong' }).models.list(), (e) => e.status === 401)
  },
  async openaiDisconnect() {
    for (let i = 0; i < 5; i++) {
      const stream = await locked.chat.completions.create(long)
      for await (const _ of stream) break
      stream.controller.abort()
      await pause(200)
      await locked.chat.completions.create({ model, messages: ask, max_tokens: 2 }, { maxRetries: 0 })
    }
  },
  async openaiRetries() {
    const stream = await locked.chat.completions.create(long)
    const release = pause(300).then(() => stream.controller.abort())
    await locked.chat.completions.create({ model, messages: ask, max_tokens: 2 }, { maxRetries: 5 })
    await release
  },
  async ollamaAll() {
    const c = new Ollama({ host: url })
    assert.equal((await c.list()).models[0].model, model + ':latest')
    const r = await c.chat({ model, messages: ask, options: { num_predict: 20, temperature: 0 } })
    let text = ''
    for await (const p of await c.chat({ model, messages: ask, stream: true, options: { num_predict: 20, temperature: 0 } })) text += p.message.content
    assert.equal(text, r.message.content)
    assert.equal((await c.embed({ model, input: ['a', 'b'] })).embeddings.length, 2)
    assert(JSON.parse((await c.chat({ model, messages: ask, format: schema })).message.content).room)
    await assert.rejects(c.chat({ model: 'llama3', messages: ask }), /is not served/)
  },
  async aiSDK() {
    const provider = createOpenAICompatible({ name: 'edged', baseURL: url + '/v1', supportsStructuredOutputs: true, includeUsage: true })
    const r = await generateText({ model: provider(model), prompt: ask[0].content, maxOutputTokens: 60, temperature: 0 })
    assert(r.text && r.usage.totalTokens > 0)
    let text = ''
    for await (const part of streamText({ model: provider(model), prompt: ask[0].content, maxOutputTokens: 60, temperature: 0 }).textStream) text += part
    assert.equal(text, r.text)
    let ran = 0
    const tools = { light: tool({ description: 'Switch a light.', inputSchema: jsonSchema(parameters), execute: async () => (ran++, 'done') }) }
    await generateText({ model: provider(model), prompt: ask[0].content, tools, toolChoice: 'required', maxOutputTokens: 120, stopWhen: stepCountIs(1) })
    assert.equal(ran, 1)
    const s = streamText({ model: provider(model), prompt: ask[0].content, tools, toolChoice: 'required', maxOutputTokens: 120, stopWhen: stepCountIs(2) })
    await s.consumeStream()
    assert.equal(ran, 3)
    const o = await generateObject({ model: provider(model), prompt: 'Which room?', schema: z.object({ room: z.enum(['hall', 'shed']) }), maxOutputTokens: 60 })
    assert(['hall', 'shed'].includes(o.object.room))
    const e = await embedMany({ model: provider.textEmbeddingModel(model), values: ['a', 'b'] })
    assert.equal(e.embeddings.length, 2)
    await assert.rejects(generateText({ model: provider('gpt-4o'), prompt: 'x' }), /is not served/)
  },
  async langchain() {
    const llm = new ChatOpenAI({ model, apiKey: 'unused', configuration: { baseURL: url + '/v1' }, temperature: 0, maxTokens: 120 })
    assert((await llm.invoke('Hello')).content)
    let text = ''
    for await (const c of await llm.stream('Hello')) text += c.content
    assert(text)
    const bound = llm.bindTools([light], { tool_choice: 'required' })
    assert.equal((await bound.invoke(ask[0].content)).tool_calls[0].name, 'light')
    let merged
    for await (const c of await bound.stream(ask[0].content)) merged = merged ? merged.concat(c) : c
    assert.equal(merged.tool_calls[0].name, 'light')
    const shaped = await llm.withStructuredOutput(z.object({ room: z.enum(['hall', 'shed']) }), { method: 'jsonSchema' }).invoke('Which room?')
    assert(['hall', 'shed'].includes(shaped.room))
    const v = await new OpenAIEmbeddings({ model, apiKey: 'unused', configuration: { baseURL: url + '/v1' } }).embedDocuments(['a', 'b'])
    assert.equal(v.length, 2)
  },
}

let failed = 0
for (const [name, check] of Object.entries(checks)) {
  try {
    await check()
    console.log('ok  ', name)
  } catch (e) {
    failed++
    console.log('FAIL', name, e)
  }
}
console.log(`javascript: ${Object.keys(checks).length - failed} passed, ${failed} failed`)
process.exit(failed > 0 ? 1 : 0)
