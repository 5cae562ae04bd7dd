// One Peer of npm peerjs, for tests: they evaluate the functions of this file.
"use strict";

let peer = null;
const events = []; // of the Peer: [name, what it came with]
const links = []; // its connections and calls, in the order of their coming; a link's number is its place
const incoming = []; // the numbers of those that others began

const outcome = (emitter, wanted) => new Promise((resolve) => {
  emitter.once(wanted, () => resolve(null));
  emitter.once("error", (error) => resolve(error.type));
  emitter.once("close", () => resolve("close"));
});

// Peer

// `build`: "page", the script for pages; "all", the same with more serializers, the package's "MsgPack" and one of our
// own; "MsgPackPeer" of the build for bundlers; "old", the script of version 1.4. Resolves with null when it is open, else with the type of an error.
async function open(id, options, build = "page") {
  const [Peer, serializers] = await builds[build]();
  options = { host: "127.0.0.1", secure: false, config: { iceServers: [] }, serializers, ...options };
  peer = id === null ? new Peer(options) : new Peer(id, options);
  for (const name of ["open", "close", "disconnected"]) peer.on(name, (detail) => events.push([name, detail ?? null]));
  peer.on("error", (error) => events.push(["error", error.type]));
  for (const name of ["connection", "call"]) peer.on(name, (connection) => incoming.push(watch(connection)));
  return outcome(peer, "open");
}

const builds = {
  page: () => [peerjs.Peer, {}],
  async all() {
    const { MsgPack } = await import("/npm/peerjs/dist/serializer.msgpack.mjs");
    const { BufferedConnection } = await bundle();
    return [peerjs.Peer, { MsgPack, Flipped: flipped(BufferedConnection) }];
  },
  async old() {
    await load("/npm/peerjs-1.4/dist/peerjs.min.js");
    return [peerjs.Peer, {}];
  },
  MsgPackPeer: async () => [(await bundle()).MsgPackPeer, {}],
};

async function bundle() {
  await load("/npm/webrtc-adapter/out/adapter.js");
  return import("/npm/peerjs/dist/bundler.mjs");
}

const load = (src) => new Promise((resolve) => {
  document.head.append(Object.assign(document.createElement("script"), { src, onload: resolve }));
});

// JSON, all of its bits turned over.
const flipped = (BufferedConnection) => class Flipped extends BufferedConnection {
  serialization = "Flipped";
  _handleDataMessage({ data }) {
    const value = JSON.parse(new TextDecoder().decode(new Uint8Array(data).map((byte) => byte ^ 255)));
    if (value.__peerData?.type === "close") this.close();
    else this.emit("data", value);
  }
  _send(value) {
    this._bufferedSend(new TextEncoder().encode(JSON.stringify(value)).map((byte) => byte ^ 255));
  }
};

const reopen = () => {
  peer.reconnect();
  return outcome(peer, "open");
};

const list = () => new Promise((resolve) => {
  peer.once("error", (error) => resolve(error.type));
  peer.listAllPeers(resolve);
});

// Connections and calls

function watch(connection) {
  const link = { connection, values: [], events: [], ready: outcome(connection, "open"), closed: false, stream: null };
  for (const name of ["open", "close", "willCloseOnRemote"]) connection.on(name, () => link.events.push(name));
  connection.on("error", (error) => link.events.push(`error ${error.type}`));
  connection.on("data", (value) => link.values.push(value));
  connection.on("close", () => (link.closed = true));
  connection.on("stream", (stream) => play(link, stream));
  return links.push(link) - 1;
}

async function connect(to, options) {
  const number = watch(peer.connect(to, options));
  const failed = await links[number].ready;
  if (failed !== null) throw new Error(failed);
  return number;
}

function about(number) {
  const { connection } = links[number];
  const { label, metadata, serialization, reliable, type, open } = connection;
  const channel = connection.dataChannel;
  return { peer: connection.peer, label, metadata, serialization, reliable, type, open, ordered: channel?.ordered };
}

// Values with a Blob are packed while later ones overtake them, so each is waited for.
async function send(number, values) {
  for (const value of values) await links[number].connection.send(value);
}

// Values

const period = new Uint8Array(10007).map((_, index) => (index * index + index * 7) >> 3);

function bytes(length) {
  const all = new Uint8Array(length);
  for (let start = 0; start < length; start += period.length) all.set(period.subarray(0, length - start), start);
  return all;
}

const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");

const summary = async (buffer) =>
  buffer.byteLength <= 100 ? hex(buffer) : [buffer.byteLength, hex(await crypto.subtle.digest("SHA-256", buffer))];

// A value with its types, as JSON; long ones by their digests.
async function describe(value) {
  if (value === null || value === undefined) return [String(value)];
  if (typeof value === "number" || typeof value === "boolean") {
    return [typeof value, Object.is(value, -0) ? "-0" : String(value)];
  }
  if (typeof value === "string") return ["string", await summary(new TextEncoder().encode(value))];
  const name = value.constructor.name;
  if (value instanceof Date) return [name, value.toISOString()];
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return [name, await summary(value)];
  if (value instanceof Blob) return [name, await summary(await value.arrayBuffer())];
  if (Array.isArray(value)) return [name, await Promise.all(value.map(describe))];
  const entries = Object.keys(value).sort().map(async (key) => [key, await describe(value[key])]);
  return [name, await Promise.all(entries)];
}

const describeAll = (values) => Promise.all(values.map(describe));

const takeAll = (number) => describeAll(links[number].values.splice(0));

// Media

// A picture that is blue but for a dot that moves, and a tone.
function makeStream() {
  const canvas = Object.assign(document.createElement("canvas"), { width: 160, height: 120 });
  const brush = canvas.getContext("2d");
  let place = 0;
  setInterval(() => {
    brush.fillStyle = "blue";
    brush.fillRect(0, 0, canvas.width, canvas.height);
    brush.fillStyle = "white";
    brush.fillRect((place = (place + 4) % canvas.width), 0, 8, 8);
  }, 40);
  const audio = new AudioContext();
  const tone = new OscillatorNode(audio, { frequency: 1000 });
  const speaker = audio.createMediaStreamDestination();
  tone.connect(speaker);
  tone.start();
  return new MediaStream([...canvas.captureStream(25).getTracks(), ...speaker.stream.getTracks()]);
}

const call = (to, options) => watch(peer.call(to, makeStream(), options));

const answer = (number, withStream) => links[number].connection.answer(withStream ? makeStream() : undefined);

function play(link, stream) {
  link.stream = stream;
  link.video ??= Object.assign(document.createElement("video"), { autoplay: true });
  link.video.srcObject = stream;
}

// What has come of a call: the kinds of its tracks, decoded frames, size and colour of the picture, and sound by its
// energy.
async function media(number) {
  const { connection, stream, video } = links[number];
  const found = { tracks: stream ? stream.getTracks().map((track) => track.kind).sort() : [], frames: 0, energy: 0 };
  for (const report of (await connection.peerConnection.getStats()).values()) {
    if (report.type !== "inbound-rtp") continue;
    found.frames += report.framesDecoded ?? 0;
    found.energy += report.totalAudioEnergy ?? 0;
  }
  if (video?.videoWidth) {
    const brush = new OffscreenCanvas(1, 1).getContext("2d");
    brush.drawImage(video, 0, 0, 1, 1);
    found.size = [video.videoWidth, video.videoHeight];
    found.colour = Array.from(brush.getImageData(0, 0, 1, 1).data.slice(0, 3));
  }
  return found;
}
