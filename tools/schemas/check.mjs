import fs from "fs"
import Ajv from "ajv"; import Ajv2020 from "ajv/dist/2020.js"; import addFormats from "ajv-formats"
const [file] = process.argv.slice(2)
const schemas = JSON.parse(fs.readFileSync(file)), answers = JSON.parse(fs.readFileSync(file + ".answers"))
let good = 0, bad = 0, none = 0
for (const [name, list] of Object.entries(answers)) {
  const s = schemas[name]
  const make = (s.$schema || "").includes("2020") || JSON.stringify(s).includes("$defs") || JSON.stringify(s).includes("prefixItems") ? Ajv2020 : Ajv
  const ajv = new make.default({strict: false, allErrors: false, validateFormats: true, logger: false}); addFormats.default(ajv)
  if ((s.$schema || "").includes("draft-04")) { none++; continue }
  let v; try { v = ajv.compile(s) } catch (e) { none++; if (!/exclusiveM/.test(e.message) && !/must be number/.test(e.message)) console.log(name, e.message.slice(0,150)); continue }
  let ok = true
  for (const a of list) if (!v(JSON.parse(a))) { ok = false; console.log(name, a.slice(0,200), JSON.stringify(v.errors).slice(0,300)); break }
  ok ? good++ : bad++
}
console.log(file, {good, bad, none})
