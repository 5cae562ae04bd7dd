// Encodings and keys of Peerix: docs/protocol/peerix.md, sections 2 to 4.

const DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const PRIME = 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n;
const B = 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn;
export const SIZE_OF_ID = 33;

export const utf8 = (text) => new TextEncoder().encode(text);
export const textOf = (bytes) => new TextDecoder("utf-8", { fatal: true }).decode(bytes);
export const toJson = (value) => utf8(JSON.stringify(value));
export const fromJson = (bytes) => JSON.parse(textOf(bytes));

export function concat(parts) {
  const all = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  return all;
}

// Messages: fields are [number, value]; a value is a number, a boolean or bytes, and undefined is left out.

function varint(value) {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return Uint8Array.from([...bytes, value]);
}

export function encode(fields) {
  const parts = [];
  for (const [number, value] of fields) {
    if (value instanceof Uint8Array) parts.push(varint(number * 8 + 2), varint(value.length), value);
    else if (value !== undefined) parts.push(varint(number * 8), varint(Number(value)));
  }
  return concat(parts);
}

// What is encoded, as an object by numbers; `kinds` says which are "uint32", "bool" or "bytes".
export function decode(bytes, kinds) {
  const found = {};
  let at = 0;
  const take = (size) => {
    if (at + size > bytes.length) throw new Error("truncated");
    return bytes.subarray(at, (at += size));
  };
  const readVarint = () => {
    let value = 0;
    for (let factor = 1; factor <= 2 ** 28; factor *= 128) {
      const [byte] = take(1);
      value += (byte % 128) * factor;
      if (byte < 128 && value < 2 ** 32) return value;
    }
    throw new Error("a varint is too large");
  };
  while (at < bytes.length) {
    const tag = readVarint(), number = Math.floor(tag / 8), type = tag % 8, kind = kinds[number];
    if (number === 0 || (kind && type !== (kind === "bytes" ? 2 : 0))) throw new Error(`a tag of ${tag}`);
    let value;
    if (type === 0) value = readVarint();
    else if (type === 2) value = take(readVarint());
    else if (type === 1 || type === 5) take(type === 1 ? 8 : 4);
    else throw new Error(`a wire type of ${type}`);
    if (kind === "bool" && value > 1) throw new Error(`a bool of ${value}`);
    if (kind !== undefined) found[number] = kind === "bool" ? value === 1 : value;
  }
  return found;
}

// Names

const toNumber = (bytes) => bytes.reduce((number, byte) => number * 256n + BigInt(byte), 0n);

function toBytes(number, size) {
  const bytes = new Uint8Array(size);
  for (let at = size - 1; at >= 0; at--, number >>= 8n) bytes[at] = Number(number & 255n);
  return bytes;
}

export function toBase62(bytes) {
  let text = "";
  for (let number = toNumber(bytes); number > 0n; number /= 62n) text = DIGITS[Number(number % 62n)] + text;
  return text || (bytes.length ? "0" : "");
}

export async function namespaceOf(name) {
  return toBase62(new Uint8Array(await crypto.subtle.digest("SHA-256", utf8(name))));
}

// Keys

const CURVE = { name: "ECDH", namedCurve: "P-256" };
export const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const fromBase64Url = (text) => fromBase64(text.replace(/-/g, "+").replace(/_/g, "/"));

// A new key pair, or that of a JSON Web Key.
export async function makeKeys(jwk) {
  if (jwk === undefined) {
    const { privateKey } = await crypto.subtle.generateKey(CURVE, true, ["deriveBits"]);
    jwk = await crypto.subtle.exportKey("jwk", privateKey);
  }
  const secret = await crypto.subtle.importKey("jwk", jwk, CURVE, false, ["deriveBits"]);
  const odd = fromBase64Url(jwk.y)[31] % 2;
  return { secret, id: concat([Uint8Array.of(2 + odd), fromBase64Url(jwk.x)]) };
}

function power(base, exponent) {
  let result = 1n;
  for (; exponent > 0n; exponent >>= 1n, base = (base * base) % PRIME) {
    if (exponent & 1n) result = (result * base) % PRIME;
  }
  return result;
}

// Both coordinates of a point in its compressed form.
function decompress(id) {
  const x = toNumber(id.subarray(1)), square = (((x * x - 3n) * x + B) % PRIME + PRIME) % PRIME;
  let y = power(square, (PRIME + 1n) / 4n);
  const isPoint = id.length === SIZE_OF_ID && (id[0] | 1) === 3 && (y * y) % PRIME === square;
  if (!isPoint) throw new Error("no point of the curve");
  if (Number(y & 1n) !== id[0] % 2) y = PRIME - y;
  return concat([Uint8Array.of(4), id.subarray(1), toBytes(y, 32)]);
}

export async function agree(keys, id) {
  const other = await crypto.subtle.importKey("raw", decompress(id), CURVE, false, []);
  const shared = await crypto.subtle.deriveBits({ name: "ECDH", public: other }, keys.secret, 256);
  return crypto.subtle.importKey("raw", shared, "AES-GCM", false, ["encrypt", "decrypt"]);
}

// Packets

export const Type = { announce: 1, invoke: 2, offer: 3, answer: 4, candidates: 5 };
const COMPRESSED = 1, SEALED = 2;
const PACKET = { 1: "uint32", 2: "uint32", 3: "bytes", 4: "bytes" };

async function pipe(bytes, stream) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}

// `payload` is a JSON array, or undefined.
export async function sealPacket(type, sender, payload, key) {
  let bytes = payload === undefined ? new Uint8Array() : toJson(payload), flags = 0;
  if (bytes.length) {
    const smaller = await pipe(bytes, new CompressionStream("deflate"));
    if (smaller.length < bytes.length) [bytes, flags] = [smaller, COMPRESSED];
    const iv = crypto.getRandomValues(new Uint8Array(12));
    bytes = concat([iv, new Uint8Array(await crypto.subtle.encrypt({ name: "AES-GCM", iv }, key, bytes))]);
    flags |= SEALED;
  }
  return encode([[1, type], [2, flags], [3, sender], [4, bytes]]);
}

export function readPacket(bytes) {
  const { 1: type, 2: flags, 3: sender, 4: payload } = decode(bytes, PACKET);
  if (!(type >= 1 && type <= 5) || sender?.length !== SIZE_OF_ID || payload === undefined) throw new Error("no packet");
  return { type, flags, sender, payload };
}

export async function openPayload({ flags, payload }, key) {
  if (!payload.length) return [];
  if (!(flags & SEALED)) throw new Error("the payload is not sealed");
  const iv = payload.subarray(0, 12);
  let bytes = new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv }, key, payload.subarray(12)));
  if (flags & COMPRESSED) bytes = await pipe(bytes, new DecompressionStream("deflate"));
  const array = fromJson(bytes);
  if (!Array.isArray(array)) throw new Error("the payload is no array");
  return array;
}
