// Measures llama.cpp on one GGUF file and prints one JSON object: the counterpart of `edged bench --json`.
//
//   node llamacpp.mjs MODEL.gguf [--threads 2] [--prompt-tokens 512] [--gen-tokens 128] [--context 1] [--repeats 1]
//
// Prefill is a prompt in one call; decode is one token after the other from --context on, logits computed, nothing drawn:
// no text, no sampler, none of the JavaScript library's own bookkeeping. So this is the peer at its best, while edged's figure
// holds its queue and its sampler.
import {spawnSync} from "node:child_process";
import {readFile} from "node:fs/promises";
import process from "node:process";
import {parseArgs} from "node:util";

// llama.cpp is called from a libuv thread, and OpenMP keeps a team for each thread that ever called it: with more than one
// libuv thread the teams compete for the cores and decode is several times slower.
if (process.env.UV_THREADPOOL_SIZE !== "1") {
    const child = spawnSync(process.execPath, process.argv.slice(1), {stdio: "inherit", env: {...process.env, UV_THREADPOOL_SIZE: "1"}});
    process.exit(child.status ?? 1);
}

const {values, positionals} = parseArgs({
    allowPositionals: true,
    options: Object.fromEntries(["threads", "prompt-tokens", "gen-tokens", "context", "repeats"].map((name) => [name, {type: "string"}])),
});
const whole = (name, usual) => {
    const n = Number(values[name] ?? usual);
    if (!Number.isInteger(n) || n < 1) throw new Error(`--${name} ${values[name]}: want a whole number from 1`);
    return n;
};
if (positionals.length !== 1) {
    console.error("usage: node llamacpp.mjs MODEL.gguf [--threads N] [--prompt-tokens N] [--gen-tokens N] [--context N] [--repeats N]");
    process.exit(2);
}
const [path] = positionals;
const threads = whole("threads", 2), prompt = whole("prompt-tokens", 512), gen = whole("gen-tokens", 128);
const start = whole("context", 1), repeats = whole("repeats", 1);

const {getLlama, LlamaLogLevel} = await import("node-llama-cpp");
const began = performance.now();
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error});
const model = await llama.loadModel({modelPath: path, gpuLayers: 0});
const context = await model.createContext({sequences: 1, threads, batchSize: 512, contextSize: Math.max(prompt, start + gen) + 32});
const sequence = context.getSequence();
const loadMs = performance.now() - began;

// Ids below 256 are plain bytes or frequent pieces in every vocabulary that is measured; which ones changes no timing.
const ids = (n, salt) => Array.from({length: n}, (_, i) => 60 + (i * 101 + salt * 31) % 180);

async function prefill(salt) {
    await sequence.clearHistory();
    const tokens = ids(prompt, salt), from = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(tokens);
    return prompt * 1000 / (performance.now() - from);
}

async function decode(n, salt) {
    await sequence.clearHistory();
    const native = context._ctx, seq = sequence._sequenceId;
    const evaluate = async (tokens, at) => {
        native.initBatch(tokens.length);
        native.addToBatch(seq, at, Uint32Array.from(tokens), Uint32Array.of(tokens.length - 1));
        await native.decodeBatch();
    };
    const first = ids(start, salt);
    for (let at = 0; at < start; at += 512) await evaluate(first.slice(at, at + 512), at);
    const more = ids(n, salt + 1), from = performance.now();
    for (let i = 0; i < n; i++) await evaluate([more[i]], start + i);
    const tps = n * 1000 / (performance.now() - from);
    native.disposeSequence(seq);
    return tps;
}

await prefill(0); // not counted
await decode(8, 0);
const pinned = JSON.parse(await readFile(new URL("package.json", import.meta.url), "utf8"));
const out = {
    program: `llama.cpp ${llama.llamaCppRelease.release} of node-llama-cpp ${pinned.dependencies["node-llama-cpp"]}`,
    threads: context.currentThreads || threads, prompt_tokens: prompt, gen_tokens: gen, context: start, load_ms: loadMs, prefill_tps: [], decode_tps: [],
};
for (let i = 1; i <= repeats; i++) {
    out.prefill_tps.push(await prefill(i));
    out.decode_tps.push(await decode(gen, i));
}
console.log(JSON.stringify(out));
process.exit(0);
