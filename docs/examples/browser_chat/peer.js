// A peer of a network of npm peer-relay, in one file without dependencies: the protocol of that package over one
// WebSocket with a relay and, where that is asked for, over WebRTC data channels with other peers.
//
// In this file: settings; ids and envelopes; `DirectLink`, one WebRTC connection; `Peer`. The page is in index.html.
"use strict";

// Settings

const ICE_SERVERS = []; // such as {urls: "stun:stun.example.org:3478"}, to connect through address translation
const ASK_EVERY = 5000; // ms between questions to the peers that are known, which also show who is still there
const MOST_UNANSWERED = 4; // questions; who leaves so many unanswered is gone
const FIRST_RETRY = 500; // ms until the relay is dialled again; twice as long every time
const LAST_RETRY = 15000;
const NEGOTIATION = 20000; // ms to make a direct connection
const LATER = 6000; // ms for a second answer
const MOST_PEERS = 50;
const MOST_NONCES = 2000;
const MOST_HOPS = 20;
const MOST_CANDIDATES = 64;
const MOST_CHARACTERS = 262144; // of one frame
const MOST_NAME = 40;

// Ids and envelopes. Here an id is 40 hexadecimal digits.

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const randomHex = (length) => hex(crypto.getRandomValues(new Uint8Array(length)));
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** An id from any form in which peers write it; null if it is none. */
function parseId(value) {
  if (typeof value === "string") return /^[0-9a-f]{40}$/i.test(value) ? value.toLowerCase() : null;
  const bytes = isObject(value) && value.type === "Buffer" ? value.data : value;
  const isByte = (item) => Number.isInteger(item) && item >= 0 && item < 256;
  return Array.isArray(bytes) && bytes.length === 20 && bytes.every(isByte) ? hex(bytes) : null;
}

/** The first frame of a WebSocket, in both directions. */
function idFrame(id) {
  return JSON.stringify({ type: "Buffer", data: id.match(/../g).map((digits) => parseInt(digits, 16)) });
}

/** The JSON value of a frame, text or binary; undefined if there is none. */
function parseJson(frame) {
  try {
    const text = typeof frame === "string" ? frame : new TextDecoder().decode(frame);
    return text.length <= MOST_CHARACTERS ? JSON.parse(text) : undefined;
  } catch {
    return undefined;
  }
}

/** What every frame but the first has to be; null if it is not. */
function parseEnvelope(value) {
  if (!isObject(value) || !isObject(value.data) || !Array.isArray(value.path)) return null;
  const [to, from, path] = [parseId(value.to), parseId(value.from), value.path.map(parseId)];
  const { nonce, data } = value;
  if (!to || !from || path.includes(null) || path.length > MOST_HOPS) return null;
  if (typeof nonce !== "string" || nonce.length > 64 || typeof data.type !== "string") return null;
  return { to, from, path, nonce, data };
}

/** One WebRTC connection with a peer, from its first signal to its end. */
class DirectLink {
  #connection = new RTCPeerConnection({ iceServers: ICE_SERVERS });
  #initiator;
  #channel = null;
  #early = []; // candidates that came before the description
  #work = Promise.resolve();
  #on;

  /** `on` has four functions: signal(object), open(), frame(data), and close(why), which is called once. */
  constructor(initiator, on) {
    this.#initiator = initiator;
    this.#on = on;
    this.#connection.onicecandidate = ({ candidate }) => {
      if (!candidate?.candidate) return; // the end of the candidates, which is not signalled
      const { sdpMLineIndex, sdpMid } = candidate;
      on.signal({ candidate: { candidate: candidate.candidate, sdpMLineIndex, sdpMid } });
    };
    this.#connection.onconnectionstatechange = () => {
      const state = this.#connection.connectionState;
      if (state === "failed" || state === "closed") this.close("the network did not let it through");
    };
    this.#connection.ondatachannel = ({ channel }) => this.#use(channel);
    if (initiator) {
      this.#use(this.#connection.createDataChannel(randomHex(20)));
      this.#then(() => this.#describe());
    }
    setTimeout(() => this.isOpen || this.close("it took too long"), NEGOTIATION);
  }

  get isOpen() {
    return this.#channel?.readyState === "open";
  }

  /** Takes what the other side signals, whatever it is. */
  take(signal) {
    if (!isObject(signal)) return;
    if (isObject(signal.candidate)) this.#then(() => this.#addCandidate(signal.candidate));
    if (typeof signal.sdp === "string") this.#then(() => this.#takeDescription(signal));
  }

  /** False if it is not open, or the text is larger than the other side takes. */
  send(text) {
    if (!this.isOpen) return false;
    try {
      this.#channel.send(text);
      return true;
    } catch {
      return false;
    }
  }

  close(why) {
    if (this.#on === null) return;
    const on = this.#on;
    this.#on = null;
    this.#connection.close();
    on.close(why);
  }

  /** One after the other: a candidate has to wait until the description before it is taken. */
  #then(work) {
    this.#work = this.#work.then(() => this.#on && work()).catch((error) => this.close(error.message));
  }

  async #describe() {
    await this.#connection.setLocalDescription();
    const { type, sdp } = this.#connection.localDescription;
    this.#on?.signal({ type, sdp });
  }

  async #takeDescription({ type, sdp }) {
    if (type !== (this.#initiator ? "answer" : "offer")) return;
    if (this.#initiator && this.#connection.signalingState !== "have-local-offer") return;
    await this.#connection.setRemoteDescription({ type, sdp });
    for (const candidate of this.#early.splice(0)) await this.#addCandidate(candidate);
    if (!this.#initiator) await this.#describe();
  }

  async #addCandidate(candidate) {
    if (this.#connection.remoteDescription) {
      // One that cannot be used is no reason to give up: there are others.
      await this.#connection.addIceCandidate(candidate).catch(() => {});
    } else if (this.#early.length < MOST_CANDIDATES) {
      this.#early.push(candidate);
    }
  }

  #use(channel) {
    if (this.#channel) return;
    this.#channel = channel;
    channel.binaryType = "arraybuffer";
    channel.onopen = () => this.#on?.open();
    channel.onmessage = ({ data }) => this.#on?.frame(data);
    channel.onclose = () => this.close("the other side closed it");
  }
}

/**
 * A peer of the network.
 *
 * `peers` has who else is known: id -> {name, heard, link, wanted, asked, timer}. `heard`: it has said something;
 * `link`: a `DirectLink`, open or not yet; `wanted`: a direct link is under way; `asked`: questions since it was heard.
 *
 * `on` has three functions: change() when anything of that may be different; message(id, value, way), in which `way`
 * is {relays, transport}; notice(text).
 */
class Peer {
  id = randomHex(20);
  name = "";
  peers = new Map();
  state = "connecting"; // or "connected", "lost", "bad address"
  relay = null; // its id, while there is a link with it
  #url = "";
  #socket = null;
  #retry = FIRST_RETRY;
  #timer = 0;
  #silence = 0;
  #nonces = new Set();
  #on;

  constructor(on) {
    this.#on = on;
    setInterval(() => this.ask(), ASK_EVERY);
  }

  // The relay

  /** Connects with a relay; without an address, with the same one again, at once. */
  dial(url = this.#url) {
    this.#drop();
    this.#url = url;
    this.state = "connecting";
    try {
      this.#socket = new WebSocket(url);
    } catch {
      this.state = "bad address";
      return this.#on.change();
    }
    const socket = this.#socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(idFrame(this.id));
    socket.onmessage = ({ data }) => this.#read(data);
    socket.onclose = () => this.#lost();
    this.#on.change();
  }

  #drop() {
    clearTimeout(this.#timer);
    if (this.#socket) {
      this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
      this.#socket.close();
    }
    this.#socket = this.relay = null;
    this.#silence = 0;
  }

  #lost() {
    this.#drop();
    this.state = "lost";
    // Not all at the same time, when many have lost the same relay.
    this.#timer = setTimeout(() => this.dial(), this.#retry * (0.5 + Math.random()));
    this.#retry = Math.min(2 * this.#retry, LAST_RETRY);
    this.#on.change();
  }

  #read(frame) {
    this.#silence = 0;
    const value = parseJson(frame);
    if (this.relay) return this.#receive(value, "WebSocket");
    this.relay = parseId(value);
    if (!this.relay) return this.#lost();
    this.state = "connected";
    this.#retry = FIRST_RETRY;
    this.#on.change();
    this.ask();
  }

  // Envelopes

  /** Says something to a peer; false if there is no way. */
  say(to, value) {
    return this.#send(to, { type: "user", data: value });
  }

  #send(to, data) {
    const nonce = String(Math.floor(Math.random() * 1e15));
    return this.#route({ to, from: this.id, path: [this.id], nonce, data });
  }

  #route(envelope) {
    const text = JSON.stringify(envelope);
    if (this.peers.get(envelope.to)?.link?.send(text)) return true;
    if (this.relay) {
      if (!envelope.path.includes(this.relay)) this.#socket.send(text);
      return true;
    }
    // Without a relay, those that have a direct link with this peer may have one.
    const others = [...this.peers].filter(([id, { link }]) => link?.isOpen && !envelope.path.includes(id));
    return others.map(([, { link }]) => link.send(text)).includes(true);
  }

  #receive(value, transport) {
    const envelope = parseEnvelope(value);
    if (!envelope || envelope.from === this.id || this.#nonces.has(envelope.nonce)) return;
    this.#nonces.add(envelope.nonce);
    if (this.#nonces.size > MOST_NONCES) this.#nonces.delete(this.#nonces.values().next().value);
    if (envelope.to !== this.id) {
      if (envelope.path.length < MOST_HOPS) this.#route({ ...envelope, path: [...envelope.path, this.id] });
      return;
    }
    const { from, path, data } = envelope;
    this.#take(from, data, { relays: Math.max(path.length - 1, 0), transport });
  }

  #take(from, { type, data }, way) {
    if (type === "chat-bye") return this.#forget(from);
    this.#hear(from);
    const known = [...this.peers].filter(([, { heard }]) => heard).map(([id]) => id);
    const reactions = {
      user: () => this.#on.message(from, data, way),
      findPeers: () => this.#send(from, { type: "foundPeers", data: known.slice(0, 20) }),
      foundPeers: () => Array.isArray(data) && data.slice(0, 64).map(parseId).forEach((id) => id && this.#meet(id)),
      "chat-name": () => this.rename(from, data),
      "handshake-offer": () => this.#takeOffer(from),
      "handshake-answer": () => this.#takeAnswer(from, data),
      signal: () => this.#takeSignal(from, data),
    };
    if (Object.hasOwn(reactions, type)) reactions[type](); // others are ignored, as by the original
  }

  // Who is there

  /** Asks the relay, and all that are known, whom they know; forgets who did not answer. */
  ask() {
    if (this.relay && ++this.#silence > MOST_UNANSWERED) return this.#lost();
    if (this.relay) this.#meet(this.relay);
    for (const [id, peer] of this.peers) {
      if (peer.asked >= MOST_UNANSWERED && !peer.link) this.#forget(id);
      else this.#question(id, peer);
    }
  }

  #question(id, peer) {
    peer.asked += 1;
    this.#send(id, { type: "findPeers", data: this.id });
  }

  /** Asks an id that somebody named; it counts once it has answered. */
  #meet(id) {
    if (id === this.id || this.peers.has(id) || this.peers.size >= MOST_PEERS) return;
    const peer = { name: "", heard: false, link: null, wanted: false, asked: 0, timer: 0 };
    this.peers.set(id, peer);
    this.#question(id, peer);
  }

  #hear(id) {
    this.#meet(id);
    const peer = this.peers.get(id);
    if (!peer) return;
    peer.asked = 0;
    if (peer.heard) return;
    peer.heard = true;
    this.#send(id, { type: "chat-name", data: this.name });
    this.#on.change();
  }

  #forget(id) {
    const peer = this.peers.get(id);
    if (!peer) return;
    if (peer.heard) this.#on.notice(`${this.nameOf(id)} left.`);
    clearTimeout(peer.timer);
    this.peers.delete(id);
    peer.wanted = false;
    peer.link?.close("");
    this.#on.change();
  }

  rename(id, name) {
    const peer = this.peers.get(id);
    if (!peer || typeof name !== "string") return;
    peer.name = name.slice(0, MOST_NAME).trim();
    this.#on.change();
  }

  nameOf(id) {
    return this.peers.get(id)?.name || `Peer ${id.slice(0, 6)}`;
  }

  #tellAll(data) {
    for (const [id, { heard }] of this.peers) if (heard) this.#send(id, data);
  }

  /** Tells everybody what this peer is called. */
  introduce(name) {
    this.name = name;
    this.#tellAll({ type: "chat-name", data: name });
  }

  /** Tells everybody that this peer goes away. A browser that is closed does not do it: half a minute may pass. */
  leave() {
    for (const { link } of this.peers.values()) link?.close("you left");
    this.#tellAll({ type: "chat-bye" });
  }

  // Direct links: who offers is told by the other side what it can do, and then makes the connection.

  connect(id) {
    const peer = this.peers.get(id);
    if (!peer || peer.link || peer.wanted) return;
    this.#want(id, peer);
    this.#send(id, { type: "handshake-offer" });
  }

  disconnect(id) {
    this.peers.get(id)?.link?.close("you closed it");
  }

  #want(id, peer) {
    peer.wanted = true;
    this.#wait(id, peer, NEGOTIATION, "there was no answer");
    this.#on.change();
  }

  #wait(id, peer, time, why) {
    clearTimeout(peer.timer);
    peer.timer = setTimeout(() => peer.link || this.#giveUp(id, peer, why), time);
  }

  #giveUp(id, peer, why) {
    if (!peer.wanted) return;
    peer.wanted = false;
    this.#on.notice(`No direct connection with ${this.nameOf(id)}: ${why}.`);
    this.#on.change();
  }

  #takeOffer(from) {
    const peer = this.peers.get(from);
    if (!peer || peer.link) return;
    if (peer.wanted && from > this.id) return; // both have offered: the offer of the smaller id counts
    this.#want(from, peer);
    this.#send(from, { type: "handshake-answer", data: { ws: null, wrtc: true } });
  }

  #takeAnswer(from, data) {
    const peer = this.peers.get(from);
    if (!peer?.wanted || peer.link || !isObject(data)) return;
    if (data.wrtc === true) return this.#link(from, peer, true);
    // Addresses that others name are not dialled here. Who has one may offer WebRTC a little later, as Python does.
    if (data.ws) this.#wait(from, peer, LATER, "it takes no WebRTC");
    else this.#giveUp(from, peer, "it has no WebRTC");
  }

  #takeSignal(from, signal) {
    const peer = this.peers.get(from);
    if (!peer) return;
    // A candidate may come before the offer; long after the offer it means nothing.
    if (!peer.link && (peer.wanted || signal?.type === "offer")) this.#link(from, peer, false);
    peer.link?.take(signal);
  }

  #link(id, peer, initiator) {
    peer.wanted = true;
    peer.link = new DirectLink(initiator, {
      signal: (signal) => this.#send(id, { type: "signal", data: signal }),
      frame: (frame) => this.#receive(parseJson(frame), "WebRTC"),
      open: () => {
        peer.wanted = false;
        this.#on.notice(`There is a direct connection with ${this.nameOf(id)} now.`);
        this.#question(id, peer);
        this.#on.change();
      },
      close: (why) => {
        peer.link = null;
        if (peer.wanted) return this.#giveUp(id, peer, why);
        if (!this.peers.has(id)) return;
        this.#on.notice(`The direct connection with ${this.nameOf(id)} ended: ${why}.`);
        this.#question(id, peer);
        this.#on.change();
      },
    });
  }
}
