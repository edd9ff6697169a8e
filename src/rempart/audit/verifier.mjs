// Check a proof without any trust in who made it: `verifier.py` again, for browsers and Node.js.
//
//   node verifier.mjs PROOF.json KEY_FILE              exit codes: 0 right, 1 wrong, 2 bad usage
//   const text = await verifyProof(proofText, keyText)  the event's JSON, as recorded; throws VerificationError
//
// This file stands alone. It needs WebCrypto with Ed25519 (Node 20; browsers of 2025). The steps are those of verifier.py:
// the checkpoint is a note signed by the key for its own log (c2sp.org/signed-note, tlog-checkpoint), the leaf is
// SHA-256(0x00 | payload) (RFC 6962 section 2.1), the inclusion proof leads from it to the checkpoint's root (RFC 9162
// section 2.1.3.2), and what the proof shows as the event is the payload.

export const FORMAT = "rempart-proof/v1";
export class VerificationError extends Error {}

const utf8 = new TextEncoder();
const wrong = (why) => { throw new VerificationError(why); };

export async function verifyProof(proofText, keyText) {
  const proof = parse(proofText, "the proof");
  if (!isObject(proof) || proof.format !== FORMAT) wrong(`the proof is not of the format ${FORMAT}`);
  const shapes = [["id", "string"], ["payload", "string"], ["checkpoint", "string"]];
  if (shapes.some(([name, kind]) => typeof proof[name] !== kind) || !Array.isArray(proof.inclusion) || !("event" in proof)) {
    wrong("not a proof: format, id, event, payload, index, inclusion, checkpoint");
  }
  const index = integer(proof.index);
  const path = proof.inclusion.map((part) => (typeof part === "string" ? bytes(part) : wrong("not a proof: inclusion")));
  if (path.some((part) => part.length !== 32)) wrong("not a proof: inclusion");
  const payload = bytes(proof.payload);
  const head = await openCheckpoint(proof.checkpoint, await parseKey(keyText));                                  // 1
  const leaf = await sha256(Uint8Array.of(0), payload);                                                          // 2
  if (!same(await rootFromInclusion(leaf, index, head.size, path), head.root)) {                                  // 3
    wrong("the event is not in the log: the inclusion proof leads to another root");
  }
  const utf8Text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const recorded = attempt(() => utf8Text.decode(payload), "the payload is not an event");
  const event = parse(recorded, "the payload");                                                                  // 4
  if (!isObject(event) || !isObject(event.metadata)) wrong("the payload is not an event");
  if (!equal(event, proof.event) || event.metadata.uid !== proof.id) wrong("the event shown is not the one that is in the log");
  return recorded;
}

async function parseKey(text) {
  const [, origin, id, encoded] = /^([^+]+)\+([0-9a-f]{8})\+(.+)$/.exec(text.trim()) ?? wrong("not a verifier key: NAME+HASH+KEY");
  const raw = bytes(encoded);
  const digest = await sha256(utf8.encode(`${origin}\n`), raw);
  if (raw.length !== 33 || raw[0] !== 1 || hex(digest.subarray(0, 4)) !== id) wrong("the key is not Ed25519, or its hash is wrong");
  return { origin, id: digest.subarray(0, 4), raw: raw.subarray(1) };
}

async function openCheckpoint(note, key) {
  const gap = note.lastIndexOf("\n\n");
  if (gap < 0 || !note.endsWith("\n")) wrong("the checkpoint is not a signed note");
  const signed = note.slice(0, gap + 1);
  const publicKey = await crypto.subtle.importKey("raw", key.raw, { name: "Ed25519" }, false, ["verify"]);
  const prefix = `\u2014 ${key.origin} `;
  let good = false;
  for (const line of note.slice(gap + 2, -1).split("\n").filter((one) => one.startsWith(prefix))) {
    const raw = attempt(() => bytes(line.slice(prefix.length)), null);
    if (raw?.length !== 68 || !same(raw.subarray(0, 4), key.id)) continue;
    good ||= await crypto.subtle.verify({ name: "Ed25519" }, publicKey, raw.subarray(4), utf8.encode(signed));
  }
  if (!good) wrong(`the checkpoint is not signed by ${key.origin}'s key`);
  const [origin, size, root] = signed.split("\n");
  if (!/^(0|[1-9][0-9]*)$/.test(size ?? "")) wrong("the signed note is not a checkpoint");
  const head = { size: BigInt(size), root: bytes(root ?? "") };
  if (head.root.length !== 32) wrong("the signed note is not a checkpoint");
  if (origin !== key.origin) wrong(`the checkpoint is of the log ${origin}, the key is ${key.origin}'s`);
  return head;
}

async function rootFromInclusion(leaf, index, size, path) {
  if (index < 0n || index >= size) wrong(`index ${index} is not in a log of ${size} events`);
  let [fn, sn, root] = [index, size - 1n, leaf];
  for (const part of path) {
    if (sn === 0n) wrong("the inclusion proof is too long");
    if (fn & 1n || fn === sn) {
      root = await sha256(Uint8Array.of(1), part, root);
      while (fn && !(fn & 1n)) { fn >>= 1n; sn >>= 1n; }
    } else {
      root = await sha256(Uint8Array.of(1), root, part);
    }
    fn >>= 1n;
    sn >>= 1n;
  }
  if (sn) wrong("the inclusion proof is too short");
  return root;
}

// -- JSON, with numbers as they are written: JavaScript's own would round those above 2^53 ------------------------------

class Numeral {
  constructor(text) { this.text = text; }
}

function parse(text, what) {
  const marked = [];
  let out = "";
  const token = /"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|[^"0-9-]+|-/gs;
  for (const [found] of text.matchAll(token)) {
    out += /^-?[0-9]/.test(found) ? (attempt(() => JSON.parse(found), `${what} is not JSON`), `{"\\u0000numeral":${marked.push(found) - 1}}`) : found;
  }
  const revive = (_, value) => (isObject(value) && "\u0000numeral" in value ? new Numeral(marked[value["\u0000numeral"]]) : value);
  if (text.includes("\u0000") || text.includes("\\u0000numeral")) wrong(`${what} is not JSON`);
  return attempt(() => JSON.parse(out, revive), `${what} is not JSON`);
}

function equal(a, b) {
  if (a instanceof Numeral || b instanceof Numeral) {
    if (!(a instanceof Numeral && b instanceof Numeral)) return false;
    const whole = /^-?[0-9]+$/;
    return whole.test(a.text) && whole.test(b.text) ? BigInt(a.text) === BigInt(b.text) : Number(a.text) === Number(b.text);
  }
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((one, i) => equal(one, b[i]));
  if (!isObject(a) || !isObject(b)) return a === b;
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => Object.hasOwn(b, name) && equal(a[name], b[name]));
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const integer = (value) => (value instanceof Numeral && /^[0-9]+$/.test(value.text) ? BigInt(value.text) : wrong("not a proof: index"));
const hex = (raw) => Array.from(raw, (one) => one.toString(16).padStart(2, "0")).join("");
const same = (a, b) => a.length === b.length && a.every((one, i) => one === b[i]);

function bytes(base64) {
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(base64)) wrong("this is not base64");
  return Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
}

async function sha256(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", whole));
}

function attempt(work, why) {
  try {
    return work();
  } catch (error) {
    if (why === null) return null;
    throw error instanceof VerificationError ? error : new VerificationError(why);
  }
}

// -- as a script -------------------------------------------------------------------------------------------------------

if (globalThis.process?.argv?.[1]?.endsWith("verifier.mjs")) {
  const { readFileSync } = await import("node:fs");
  const [proof, key, ...more] = process.argv.slice(2);
  if (!key || more.length) {
    console.error("usage: node verifier.mjs PROOF.json KEY_FILE");
    process.exit(2);
  }
  try {
    console.log(await verifyProof(readFileSync(proof, "utf8"), readFileSync(key, "utf8")));
  } catch (error) {
    console.error(error instanceof VerificationError ? `wrong: ${error.message}` : `can't be read: ${error.message}`);
    process.exit(error instanceof VerificationError ? 1 : 2);
  }
}
