// npm `peerjs-js-binarypack` as a process: each line of input is a JSON array of commands, each line of output their
// results. {"pack": value} gives {"hex"}, {"unpack": hex} gives {"value"}; what throws gives {"error"}.
// Values are described: null, true, false and strings as they are, {"f": hex of a float64}, {"b": hex of bytes},
// {"a": [...]}, {"o": [[key, value], ...]}, {"d": milliseconds}.
import { createInterface } from "node:readline";
import { pack, unpack } from "peerjs-js-binarypack";

process.env.TZ = "UTC";

function made(described) {
  if (described === null || typeof described !== "object") return described;
  if ("f" in described) return Buffer.from(described.f, "hex").readDoubleBE();
  if ("b" in described) return new Uint8Array(Buffer.from(described.b, "hex"));
  if ("a" in described) return described.a.map(made);
  if ("d" in described) return new Date(described.d);
  const object = {};
  for (const [key, value] of described.o) {
    Object.defineProperty(object, key, { value: made(value), enumerable: true, configurable: true, writable: true });
  }
  return object;
}

function described(value) {
  if (value === undefined) return null;
  if (typeof value === "number") {
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleBE(value);
    return { f: bytes.toString("hex") };
  }
  if (value === null || typeof value !== "object") return value;
  if (value instanceof ArrayBuffer) return { b: Buffer.from(value).toString("hex") };
  if (Array.isArray(value)) return { a: value.map(described) };
  return { o: Object.entries(value).map(([key, inner]) => [key, described(inner)]) };
}

function run(command) {
  try {
    if ("unpack" in command) return { value: described(unpack(new Uint8Array(Buffer.from(command.unpack, "hex")).buffer)) };
    return { hex: Buffer.from(pack(made(command.pack))).toString("hex") };
  } catch (error) {
    return { error: String(error) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(JSON.parse(line).map(run))}\n`);
}
