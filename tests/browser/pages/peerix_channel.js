// A data channel of a Peerix room: messages in pieces (docs/protocol/peerix.md, section 7).

import { concat, decode, encode, fromJson, textOf, toJson, utf8 } from "./peerix_wire.js";

const CHUNK = 16320, HIGH = 262144, LOW = 32768, PATIENCE = 10000;
const PIECE = { 1: "uint32", 2: "bool", 3: "uint32", 4: "uint32", 5: "bool", 6: "bool", 7: "bytes", 8: "bytes" };
const TEXT = 1, JSON_TYPE = 2, BLOB = 3, BYTES = 4;

function later(milliseconds) {
  let done;
  const promise = new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("Transfer timed out")), milliseconds);
    done = (error) => (clearTimeout(timer), error ? reject(error) : resolve());
  });
  return { promise, done };
}

async function bytesOf(value) {
  if (typeof value === "string") return [TEXT, utf8(value)];
  if (value instanceof Blob) return [BLOB, new Uint8Array(await value.arrayBuffer())];
  if (value instanceof Uint8Array) return [BYTES, value];
  return [JSON_TYPE, toJson(value ?? null)];
}

export class Channel {
  // `onMessage` gets {label, info, type, value, received, error} when a message is over, `mayTake` each piece of one.
  constructor(channel, { onMessage, mayTake, onClose }) {
    this.channel = channel;
    this.label = channel.label;
    this.framed = channel.ordered && !channel.protocol;
    this.onMessage = onMessage;
    this.mayTake = mayTake;
    this.id = 0;
    this.last = Promise.resolve();
    this.incoming = new Map();
    this.current = null;
    channel.binaryType = "arraybuffer";
    channel.bufferedAmountLowThreshold = LOW;
    channel.onmessage = ({ data }) => this.take(data);
    this.opened = new Promise((resolve) => (channel.readyState === "open" ? resolve() : (channel.onopen = resolve)));
    channel.onclose = () => {
      this.incoming.forEach((message) => this.end(message, "closed"));
      onClose(this);
    };
  }

  // Sends a message after those before it. `onProgress(sent, total)` may return "abort"; `wrongly`: that is said as the
  // original does.
  send(value, options = {}) {
    const sent = this.last.then(() => this.sendNow(value, options));
    this.last = sent.catch(() => 0);
    return sent;
  }

  async sendNow(value, { info, onProgress, wrongly = false }) {
    if (!this.framed) throw new Error("Channel is not supported");
    const [type, bytes] = await bytesOf(value), about = info === undefined ? undefined : toJson(info);
    this.id = (this.id % 65535) + 1;
    const id = this.id, acknowledged = later(2 ** 31 - 1);
    acknowledged.promise.catch(() => 0);
    this.current = { id, done: acknowledged.done };
    try {
      await this.opened;
      for (let at = 0, index = 0, done = false; !done; index++) {
        const chunk = bytes.subarray(at, at + CHUNK - (index ? 0 : about?.length ?? 0));
        at += chunk.length;
        done = at >= bytes.length;
        const [firstType, firstInfo] = index ? [] : [type, about];
        await this.write([[1, id], [3, index], [4, firstType], [6, done], [7, firstInfo], [8, chunk]]);
        if (onProgress?.(at, bytes.length) === "abort") {
          await this.write([[1, id], ...(wrongly ? [[2, true]] : []), [5, true]]);
          throw new Error("aborted here");
        }
        if (this.current.error) throw this.current.error;
      }
      setTimeout(() => acknowledged.done(new Error("Transfer timed out")), PATIENCE);
      await acknowledged.promise;
    } finally {
      this.current = null;
    }
  }

  async write(fields) {
    const packet = encode(fields);
    if (this.channel.bufferedAmount > HIGH - packet.length) {
      const { promise, done } = later(PATIENCE);
      this.channel.onbufferedamountlow = () => done();
      await promise;
    }
    this.channel.send(packet);
  }

  take(data) {
    if (typeof data === "string" || !this.framed) {
      const value = typeof data === "string" ? data : new Uint8Array(data);
      this.onMessage({ label: this.label, type: "raw", value, received: value.length });
      return;
    }
    const packet = decode(new Uint8Array(data), PIECE);
    const { 1: id, 2: ask, 3: index, 4: type, 5: abort, 6: done, 7: info, 8: chunk } = packet;
    if (ask) {
      if (this.current?.id !== id) return;
      const error = abort ? new Error("Aborted by receiver") : undefined;
      this.current.error = error;
      this.current.done(error);
      return;
    }
    if (index === 0 && type) this.incoming.set(id, { id, type, info, next: 0, chunks: [], received: 0 });
    const message = this.incoming.get(id);
    if (message === undefined) return;
    if (abort) this.end(message, "Aborted by sender");
    else if (index !== message.next++) this.end(message, "Incorrect message order");
    else this.grow(message, chunk, done);
  }

  grow(message, chunk, done) {
    message.chunks.push(chunk);
    message.received += chunk.length;
    if (!this.mayTake(message)) {
      this.write([[1, message.id], [2, true], [5, true]]);
      this.end(message, "aborted here");
    } else if (done) {
      this.write([[1, message.id], [2, true], [6, true]]);
      this.end(message);
    }
  }

  end({ id, type, info, chunks, received }, error) {
    this.incoming.delete(id);
    const bytes = concat(chunks);
    const about = { label: this.label, info: info && fromJson(info), received };
    if (error) this.onMessage({ ...about, error });
    else if (type === TEXT) this.onMessage({ ...about, type: "text", value: textOf(bytes) });
    else if (type === JSON_TYPE) this.onMessage({ ...about, type: "json", value: fromJson(bytes) });
    else this.onMessage({ ...about, type: type === BLOB ? "blob" : "bytes", value: bytes });
  }
}
