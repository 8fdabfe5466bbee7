// Measures edged and llama.cpp on one file, in turns (A B A B …), prints both rows and their ratio, and appends what was
// measured to a JSON Lines file. Each turn is a process of its own, which loads the file, warms up and measures once: neither
// program waits in memory, spinning, while the other one runs.
//
//   node compare.mjs --model M.gguf --edged bin/edged --log docs/benchmarks/peers.jsonl [--threads 2] [--repeats 5]
//                    [--prompt-tokens 512] [--gen-tokens 128] [--context 1]
import {execFileSync} from "node:child_process";
import {appendFileSync} from "node:fs";
import os from "node:os";
import process from "node:process";
import {fileURLToPath} from "node:url";
import {parseArgs} from "node:util";

const {values: opt} = parseArgs({
    options: {
        model: {type: "string"}, edged: {type: "string"}, log: {type: "string"},
        threads: {type: "string", default: "2"}, repeats: {type: "string", default: "5"},
        "prompt-tokens": {type: "string", default: "512"}, "gen-tokens": {type: "string", default: "128"}, context: {type: "string", default: "1"},
    },
});
const sizes = ["threads", "prompt-tokens", "gen-tokens"].flatMap((name) => [`--${name}`, opt[name]]);
if (opt.context !== "1") sizes.push("--context", opt.context);
const run = (...command) => JSON.parse(execFileSync(command[0], command.slice(1), {stdio: ["ignore", "pipe", "inherit"], encoding: "utf8"}));
const peerScript = fileURLToPath(new URL("llamacpp.mjs", import.meta.url));

const turns = {edged: [], peer: []};
const load = [os.loadavg()[0]];
for (let i = 0; i < Number(opt.repeats); i++) {
    turns.edged.push(run(opt.edged, "bench", "--json", "--repeats", "1", "--model", opt.model, ...sizes));
    turns.peer.push(run(process.execPath, peerScript, opt.model, "--repeats", "1", ...sizes));
    process.stderr.write(`turn ${i + 1} of ${opt.repeats}\n`);
}
load.push(os.loadavg()[0]);

const median = (x) => {
    const s = x.toSorted((a, b) => a - b);
    return (s[(s.length - 1) >> 1] + s[s.length >> 1]) / 2;
};
const rates = (side, name) => turns[side].flatMap((t) => t[name]);
const e = turns.edged[0], p = turns.peer[0];
const line = {
    time: new Date().toISOString().replace(/\..*/, "Z"), machine: e.machine, load_average: load, priority: os.getPriority(), model: e.model,
    threads: e.threads, prompt_tokens: e.prompt_tokens, gen_tokens: e.gen_tokens, context: e.context,
    edged: {
        version: e.edged, kernels: e.machine.kernels[0], prefill_tps: rates("edged", "prefill_tps"), decode_tps: rates("edged", "decode_tps"),
        bandwidth_gbps: turns.edged.map((t) => t.bandwidth_gbps), weight_bytes_per_token: e.weight_bytes_per_token,
        first_token_ms: turns.edged.map((t) => t.first_token_ms), load_ms: turns.edged.map((t) => t.load_ms),
    },
    peer: {program: p.program, prefill_tps: rates("peer", "prefill_tps"), decode_tps: rates("peer", "decode_tps"), load_ms: turns.peer.map((t) => t.load_ms)},
};
line.ratio = {
    prefill: median(line.edged.prefill_tps) / median(line.peer.prefill_tps),
    decode: median(line.edged.decode_tps) / median(line.peer.decode_tps),
};
line.decode_percent_of_bandwidth = 100 * median(line.edged.decode_tps) * e.weight_bytes_per_token / 1e9 / median(line.edged.bandwidth_gbps);

const cell = (x) => `${median(x).toFixed(1)} (${Math.min(...x).toFixed(1)} to ${Math.max(...x).toFixed(1)})`.padEnd(28);
console.log(`${e.model.file} ${e.model.hash.slice(0, 12)}, ${e.threads} threads, ${e.machine.cpu}, load ${load.map((l) => l.toFixed(1)).join(" to ")}`);
console.log(`tokens/s, medians of ${opt.repeats} turns`.padEnd(44), `prefill ${e.prompt_tokens}`.padEnd(28), `decode ${e.gen_tokens}`);
console.log(`edged ${e.edged} (${line.edged.kernels})`.padEnd(44), cell(line.edged.prefill_tps), cell(line.edged.decode_tps));
console.log(p.program.padEnd(44), cell(line.peer.prefill_tps), cell(line.peer.decode_tps));
console.log("ratio".padEnd(44), line.ratio.prefill.toFixed(2).padEnd(28), line.ratio.decode.toFixed(2).padEnd(28), `decode at ${line.decode_percent_of_bandwidth.toFixed(0)} % of reading alone`);
if (opt.log) appendFileSync(opt.log, JSON.stringify(line) + "\n");
